// Stand-ins for CUDA, with which a C++ compiler makes the kernels' sources run on a CPU: one thread
// after the other. The kernels use no shared memory and no barriers, so the order has no effect.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

using std::exp;
using std::expm1;
using std::log1p;
using std::tanh;

#define __global__ inline
#define __device__ inline
#define __forceinline__
#define __launch_bounds__(threads)

struct Index {
  unsigned x;
};
static thread_local Index blockIdx, threadIdx;

#define LAUNCH(kernel, blocks, stream, ...)                   \
  for (unsigned block = 0; block < (blocks); block++)         \
    for (unsigned thread = 0; thread < THREADS; thread++) {   \
      blockIdx.x = block, threadIdx.x = thread;               \
      kernel(__VA_ARGS__);                                    \
    }

struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
inline void __stwb(uint4* p, uint4 bits) { *p = bits; }

struct __half {
  _Float16 value;
};
inline float __half2float(__half half) { return float(half.value); }
inline __half __float2half_rn(float value) { return {_Float16(value)}; }

struct __nv_bfloat16 {
  uint16_t bits;
};
inline float __bfloat162float(__nv_bfloat16 half) {
  const uint32_t bits = uint32_t(half.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  if (value != value) return {0x7fff};
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};  // to nearest, ties to even
}

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t code) {
  return code == cudaErrorInvalidValue ? "invalid argument" : "another error";
}
