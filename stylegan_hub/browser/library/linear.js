/** Small layers on plain arrays, which would not gain from a graphics card. */

/**
 * `weight @ x * gain + bias`.
 *
 * @param {Float32Array} x `[in]`
 * @param {Float32Array} weight `[out, in]`
 * @param {Float32Array | null} bias `[out]`
 * @param {number} [gain]
 * @returns {Float32Array} `[out]`
 */
export function linear(x, weight, bias, gain = 1) {
  const width = x.length;
  const result = new Float32Array(weight.length / width);
  for (let row = 0, at = 0; row < result.length; row++) {
    let sum = 0;
    for (let column = 0; column < width; column++) sum += weight[at++] * x[column];
    result[row] = sum * gain + (bias ? bias[row] : 0);
  }
  return result;
}

/** StyleGAN's leaky ReLU, in place: slope 0.2, times the square root of 2. */
export function leaky(x) {
  for (let i = 0; i < x.length; i++) x[i] *= x[i] < 0 ? 0.2 * Math.SQRT2 : Math.SQRT2;
  return x;
}

/**
 * A fully connected layer with equalized learning rate (ProGAN, section 4.1).
 *
 * @param {Float32Array} x `[in]`
 * @param {{data: Float32Array, shape: number[]}} weight `[out, in]`
 * @param {{data: Float32Array}} bias `[out]`
 * @param {number} multiplier of the learning rate
 */
export function equalized(x, weight, bias, multiplier = 1) {
  const scaled = multiplier === 1 ? bias.data : bias.data.map(number => number * multiplier);
  return linear(x, weight.data, scaled, multiplier / Math.sqrt(x.length));
}

/** The numbers scaled to mean square 1. */
export function pixelNorm(x) {
  let sum = 0;
  for (const number of x) sum += number * number;
  const factor = 1 / Math.sqrt(sum / x.length + 1e-8);
  return x.map(number => number * factor);
}

/** The inner product. */
export function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** The vector scaled to length 1. */
export function unit(x) {
  const length = Math.max(Math.sqrt(dot(x, x)), 1e-12);
  return x.map(number => number / length);
}
