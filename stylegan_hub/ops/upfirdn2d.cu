// Insert zeros, pad or crop, filter, and keep every down-th sample, in one pass.
//
// Pictures are dense, [outer, height, width, inner]: contiguous ones with outer = n * c and
// inner = 1, channels-last ones with outer = n and inner = c. Each thread computes one result; the
// samples that neighbors share come from the cache. Inserted zeros are skipped, never read. The
// derivative is the same operation with up and down swapped.

#include "kernels.cuh"

namespace {

// The same fields, in the same order, as in upfirdn2d.py. The size of the result contains the
// padding on the right and at the bottom.
struct Resampling {
  int64_t outer, inner;
  int64_t height, width, out_height, out_width;
  int64_t up_x, up_y, down_x, down_y;
  int64_t left, top;  // padding; negative numbers crop
  int64_t taps_x, taps_y;
  int64_t flip;  // correlate instead of convolve
};

// UP, DOWN and TAPS make the common cases constants for the compiler (equal on both axes); 0: any.
template <typename T, int UP, int DOWN, int TAPS>
__global__ void __launch_bounds__(THREADS)
upfirdn2d_kernel(const T* __restrict__ x, const Compute<T>* __restrict__ filter,
                 T* __restrict__ y, Resampling r) {
  using C = Compute<T>;
  const int64_t index = thread_index();
  if (index >= r.outer * r.inner * r.out_height * r.out_width) return;
  const int64_t pixel = index / r.inner, inner = index - pixel * r.inner;
  const int64_t line = pixel / r.out_width, outer = line / r.out_height;
  const int out_x = int(pixel - line * r.out_width), out_y = int(line - outer * r.out_height);

  const int up_x = UP ? UP : int(r.up_x), up_y = UP ? UP : int(r.up_y);
  const int taps_x = TAPS ? TAPS : int(r.taps_x), taps_y = TAPS ? TAPS : int(r.taps_y);
  const int height = int(r.height), width = int(r.width);
  // The position of the first tap among samples with inserted zeros, and the first tap that does
  // not meet an inserted zero.
  const int first_x = out_x * (DOWN ? DOWN : int(r.down_x)) - int(r.left);
  const int first_y = out_y * (DOWN ? DOWN : int(r.down_y)) - int(r.top);
  const int start_x = UP == 1 ? 0 : ((-first_x) % up_x + up_x) % up_x;
  const int start_y = UP == 1 ? 0 : ((-first_y) % up_y + up_y) % up_y;
  const int sample_x = (first_x + start_x) / up_x, sample_y = (first_y + start_y) / up_y;
  const int steps_x = TAPS && UP ? TAPS / UP : (taps_x - start_x + up_x - 1) / up_x;
  const int steps_y = TAPS && UP ? TAPS / UP : (taps_y - start_y + up_y - 1) / up_y;

  const T* from = x + outer * r.height * r.width * r.inner + inner;
  C sum = C(0);
#pragma unroll
  for (int j = 0; j < steps_y; j++) {
    const int sy = sample_y + j, ky = start_y + j * up_y;
    if (sy < 0 || sy >= height) continue;
#pragma unroll
    for (int i = 0; i < steps_x; i++) {
      const int sx = sample_x + i, kx = start_x + i * up_x;
      if (sx < 0 || sx >= width) continue;
      const int tap = ky * taps_x + kx;
      const C weight = filter[r.flip ? tap : taps_x * taps_y - 1 - tap];
      sum += weight * widened(from[(int64_t(sy) * width + sx) * r.inner]);
    }
  }
  narrow(sum, y[index]);
}

}  // namespace

// filter: in float, or in double for pictures in double.
EXPORT int upfirdn2d(int type, const void* x, const void* filter, void* y,
                     const Resampling* resampling, void* stream) {
  const Resampling r = *resampling;
  const bool alike = r.up_x == r.up_y && r.down_x == r.down_y && r.taps_x == r.taps_y;
  const int64_t common = alike && r.taps_x == 4 ? r.up_x * 10 + r.down_x : 0;
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    using C = Compute<T>;
    const auto run = [&](auto kernel) {
      return launch(kernel, r.outer * r.inner * r.out_height * r.out_width, stream,
                    static_cast<const T*>(x), static_cast<const C*>(filter), static_cast<T*>(y), r);
    };
    switch (common) {
      case 11: return run(upfirdn2d_kernel<T, 1, 1, 4>);
      case 12: return run(upfirdn2d_kernel<T, 1, 2, 4>);
      case 21: return run(upfirdn2d_kernel<T, 2, 1, 4>);
      default: return run(upfirdn2d_kernel<T, 0, 0, 0>);
    }
  });
}
