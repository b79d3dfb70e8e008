/**
 * PyTorch's random numbers on a CPU, so that a seed gives the same face here and in Python: the
 * Mersenne Twister MT19937 (Matsumoto and Nishimura 1998) and the Box-Muller method.
 */

const STATE = 624;
const SHIFT = 397;
const BLOCK = 16; // numbers that PyTorch makes together

class Twister {
  constructor(seed) {
    this.state = new Uint32Array(STATE);
    this.state[0] = Number(BigInt.asUintN(32, BigInt(seed)));
    for (let i = 1; i < STATE; i++) {
      const last = this.state[i - 1];
      this.state[i] = Math.imul(1812433253, last ^ (last >>> 30)) + i;
    }
    this.next = STATE;
  }

  /** @returns {number} 32 random bits */
  bits() {
    if (this.next === STATE) this.#advance();
    let y = this.state[this.next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  #advance() {
    const { state } = this;
    for (let i = 0; i < STATE; i++) {
      const joined = (state[i] & 0x80000000) | (state[(i + 1) % STATE] & 0x7fffffff);
      state[i] = state[(i + SHIFT) % STATE] ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }
}

/**
 * The same as `torch.randn(count, generator=torch.Generator().manual_seed(seed))`.
 *
 * @param {number | bigint} seed from 0 to 2**63 - 1
 * @param {number} count
 * @returns {Float32Array}
 */
export function randn(seed, count) {
  const twister = new Twister(seed);
  return count < BLOCK ? fewNormal(twister, count) : manyNormal(twister, count);
}

function manyNormal(twister, count) {
  const uniform = () => (twister.bits() & 0xffffff) / 2 ** 24;
  const numbers = Float32Array.from({ length: count }, uniform);
  const toNormal = start => {
    for (let i = start; i < start + BLOCK / 2; i++) {
      const radius = Math.sqrt(-2 * Math.log(Math.fround(1 - numbers[i])));
      const angle = 2 * Math.PI * numbers[i + BLOCK / 2];
      numbers[i] = radius * Math.cos(angle);
      numbers[i + BLOCK / 2] = radius * Math.sin(angle);
    }
  };
  for (let start = 0; start + BLOCK <= count; start += BLOCK) toNormal(start);
  if (count % BLOCK) { // the whole last block is made again, overlapping the one before
    for (let i = count - BLOCK; i < count; i++) numbers[i] = uniform();
    toNormal(count - BLOCK);
  }
  return numbers;
}

function fewNormal(twister, count) {
  const uniform = () => {
    const high = BigInt(twister.bits());
    return Number(BigInt.asUintN(53, (high << 32n) | BigInt(twister.bits()))) / 2 ** 53;
  };
  const numbers = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const angle = 2 * Math.PI * uniform();
    const radius = Math.sqrt(-2 * Math.log1p(-uniform()));
    numbers[i] = radius * Math.cos(angle);
    if (i + 1 < count) numbers[i + 1] = radius * Math.sin(angle);
  }
  return numbers;
}
