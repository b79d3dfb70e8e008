/**
 * Reads safetensors files: eight bytes with the length of a JSON header, the header, the numbers.
 * A file is untrusted: every offset is checked before anything is read through it.
 *
 * @typedef {{shape: number[], data: Float32Array | Int32Array | Uint8Array}} Tensor
 * @typedef {Map<string, Tensor>} Tensors
 */

const MAX_HEADER_BYTES = 8 << 20;
const BYTES = { F16: 2, F32: 4, I32: 4, U8: 1 };

/** A problem with a file or a request; its message for the user says what to do. */
export class BrowserError extends Error {
  name = 'BrowserError';
}

/**
 * The tensors of a file; floating-point numbers are in single precision.
 *
 * @param {ArrayBuffer} buffer all bytes of the file
 * @param {string} where the file's source, for messages
 * @returns {Tensors}
 * @throws {BrowserError} the file is cut short, damaged, or has an unsupported type
 */
export function readSafetensors(buffer, where) {
  const damaged = why => {
    throw new BrowserError(
      `${where} cannot be read: ${why}. Load the page again; if that does not help, export the ` +
        'pipeline again.');
  };
  if (buffer.byteLength < 8) damaged(`it has ${buffer.byteLength} bytes, expected at least 8`);
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  if (length > MAX_HEADER_BYTES || 8 + length > buffer.byteLength) {
    damaged(`it has ${buffer.byteLength} bytes and a header of ${length}; it is cut short`);
  }
  let header;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true })
      .decode(new Uint8Array(buffer, 8, length)));
  } catch (error) {
    damaged(`its header is not JSON (${error.message})`);
  }
  const start = 8 + length;
  const tensors = new Map();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const { dtype, shape, data_offsets: offsets } = entry ?? {};
    const size = BYTES[dtype];
    const isSound = size && Array.isArray(shape) && Array.isArray(offsets) &&
      [...shape, ...offsets].every(number => Number.isSafeInteger(number) && number >= 0);
    if (!isSound) damaged(`the tensor ${name} has the type ${dtype}, which is not supported`);
    const count = shape.reduce((product, side) => product * side, 1);
    const [from, to] = offsets;
    if (to - from !== count * size || start + to > buffer.byteLength) {
      damaged(`the tensor ${name} ends at byte ${start + to} of ${buffer.byteLength}; ` +
        'it is cut short');
    }
    const bytes = buffer.slice(start + from, start + to);
    tensors.set(name, { shape, data: numbers(dtype, bytes) });
  }
  return tensors;
}

/**
 * The tensor of this name.
 *
 * @param {Tensors} tensors
 * @param {string} name
 * @param {number[]} [shape] the expected shape
 * @throws {BrowserError} the tensor is missing, or has another shape
 */
export function tensorOf(tensors, name, shape) {
  const tensor = tensors.get(name);
  if (!tensor || (shape && shape.join() !== tensor.shape.join())) {
    throw new BrowserError(
      `The weights have ${tensor ? `[${tensor.shape}]` : 'nothing'} as the tensor ${name}` +
        `${shape ? `; expected [${shape}]` : ''}. Use files from the same export.`);
  }
  return tensor;
}

function numbers(dtype, bytes) {
  if (dtype === 'F32') return new Float32Array(bytes);
  if (dtype === 'I32') return new Int32Array(bytes);
  if (dtype === 'U8') return new Uint8Array(bytes);
  const halves = new Uint16Array(bytes);
  const result = new Float32Array(halves.length);
  for (let i = 0; i < result.length; i++) result[i] = HALVES[halves[i]]; // faster than `from`
  return result;
}

// All half-precision numbers, by their bits.
const HALVES = Float32Array.from({ length: 1 << 16 }, (_, bits) => {
  const exponent = (bits >> 10) % 32;
  const fraction = (bits & 1023) / 1024;
  const size = exponent === 31 ? Infinity : 2 ** (Math.max(exponent, 1) - 15);
  return (bits >> 15 ? -size : size) * (exponent ? 1 + fraction : fraction);
});
