// The most multiply-adds that one core can do: independent sums in registers, nothing in memory.
// Prints billions of multiply-adds per second in float32, and in bfloat16 if the processor has it.

#include <chrono>
#include <cstdio>
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
constexpr int SUMS = 12;  // enough to fill the pipeline of the units
constexpr long STEPS = 20'000'000;

typedef float Vec __attribute__((vector_size(LANES * 4)));

static double seconds_since(std::chrono::steady_clock::time_point began) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

static double single() {
  Vec sums[SUMS] = {}, a = Vec{} + 1.0001f, b = Vec{} + 0.9999f;
  const auto began = std::chrono::steady_clock::now();
  for (long step = 0; step < STEPS; step++) {
#pragma GCC unroll 12
    for (int i = 0; i < SUMS; i++) sums[i] = sums[i] * a + b;
    asm volatile("" : "+x"(a), "+x"(b));
  }
  const double taken = seconds_since(began);
  for (int i = 0; i < SUMS; i++) asm volatile("" : : "x"(sums[i]));
  return double(STEPS) * SUMS * LANES / taken / 1e9;
}

#if defined(__AVX512BF16__)
static double half() {
  __m512 sums[SUMS] = {};
  __m512bh a = (__m512bh)_mm512_set1_epi16(0x3f80), b = a;
  const auto began = std::chrono::steady_clock::now();
  for (long step = 0; step < STEPS; step++) {
#pragma GCC unroll 12
    for (int i = 0; i < SUMS; i++) sums[i] = _mm512_dpbf16_ps(sums[i], a, b);
    asm volatile("" : "+x"(a), "+x"(b));
  }
  const double taken = seconds_since(began);
  for (int i = 0; i < SUMS; i++) asm volatile("" : : "x"(sums[i]));
  return double(STEPS) * SUMS * 32 / taken / 1e9;
}
#endif

int main() {
  std::printf("float32 %.1f\n", single());
#if defined(__AVX512BF16__)
  std::printf("bfloat16 %.1f\n", half());
#endif
}
