// Code that the CUDA kernels share: types, loads of 16 bytes, launching.
//
// The kernels have a C interface and include no code of PyTorch. Half and bfloat16 are computed in
// float. Indices of elements have 64 bits. Tests compile the same sources for a CPU: they define
// LAUNCH, and replacements for what the headers below define.

#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#ifndef LAUNCH
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define LAUNCH(kernel, blocks, stream, ...) \
  kernel<<<blocks, THREADS, 0, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

constexpr int THREADS = 256;

template <typename T>
struct Computing {
  using type = float;
};
template <>
struct Computing<double> {
  using type = double;
};
template <typename T>
using Compute = typename Computing<T>::type;  // the type in which numbers of type T are computed

__device__ __forceinline__ float widened(__half value) { return __half2float(value); }
__device__ __forceinline__ float widened(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ __forceinline__ float widened(float value) { return value; }
__device__ __forceinline__ double widened(double value) { return value; }

__device__ __forceinline__ void narrow(float value, __half& to) { to = __float2half_rn(value); }
__device__ __forceinline__ void narrow(float value, __nv_bfloat16& to) {
  to = __float2bfloat16_rn(value);
}
__device__ __forceinline__ void narrow(float value, float& to) { to = value; }
__device__ __forceinline__ void narrow(double value, double& to) { to = value; }

template <typename T>
constexpr int LANES = 16 / int(sizeof(T));  // elements that a thread loads at once

// N neighbors: one load of 16 bytes if N is LANES, and then p must be a multiple of 16.
template <typename T, int N>
__device__ __forceinline__ void load(const T* p, Compute<T> (&values)[N]) {
  static_assert(N == 1 || N == LANES<T>, "one element or 16 bytes");
  T parts[N];
  if constexpr (N == 1) {
    parts[0] = *p;
  } else {
    const uint4 bits = *reinterpret_cast<const uint4*>(p);
    memcpy(parts, &bits, sizeof(bits));
  }
#pragma unroll
  for (int i = 0; i < N; i++) values[i] = widened(parts[i]);
}

template <typename T, int N>
__device__ __forceinline__ void store(T* p, const Compute<T> (&values)[N]) {
  T parts[N];
#pragma unroll
  for (int i = 0; i < N; i++) narrow(values[i], parts[i]);
  if constexpr (N == 1) {
    *p = parts[0];
  } else {
    uint4 bits;
    memcpy(&bits, parts, sizeof(bits));
    __stwb(reinterpret_cast<uint4*>(p), bits);  // an assignment is sometimes split by the compiler
  }
}

__device__ __forceinline__ int64_t thread_index() {
  return int64_t(blockIdx.x) * THREADS + threadIdx.x;
}

inline bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// Launches one thread for each of `count` items; returns 0 or the number of an error. Without items
// nothing is launched, since an empty grid is an error.
template <typename Kernel, typename... Arguments>
int launch(Kernel kernel, int64_t count, void* stream, Arguments... arguments) {
  const int64_t blocks = (count + THREADS - 1) / THREADS;
  if (blocks <= 0) return 0;
  if (blocks > INT32_MAX) return int(cudaErrorInvalidConfiguration);
  static_cast<void>(stream);  // a replacement of LAUNCH may not use it
  LAUNCH(kernel, unsigned(blocks), stream, arguments...);
  return int(cudaGetLastError());
}

// Calls `call(T())` with the type to which the Python side has given this number.
template <typename Call>
int with_type(int type, Call call) {
  switch (type) {
    case 0: return call(__half());
    case 1: return call(__nv_bfloat16());
    case 2: return call(float());
    case 3: return call(double());
    default: return int(cudaErrorInvalidValue);
  }
}

}  // namespace

EXPORT const char* error_text(int code) { return cudaGetErrorString(cudaError_t(code)); }
