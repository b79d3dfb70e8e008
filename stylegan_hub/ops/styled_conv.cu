// Everything after the convolution of a 3x3 layer of StyleGAN2, which is cuDNN's:
//
//     y = clamp(lrelu(z * scale + noise + bias))
//
// and, with only the scale, the modulation before it.
//
// z is the result of the convolution. If the layer doubles the size, z is the result of the
// transposed convolution, one pixel wider and higher, filtered with 4x4 taps: the filter is part of
// the same pass, and the filtered z is never written.
//
// Pictures are dense, contiguous or channels-last ("last"). Scale, noise and bias are in float (in
// double for pictures in double). A thread computes 16 bytes of neighbors if the shape allows it.

#include "kernels.cuh"

namespace {

constexpr int ROWS = 4;        // adjacent rows of the result that a thread filters
constexpr int TAPS = 4;        // of the filter, along each axis
constexpr int PER_THREAD = 32;  // pixels whose gradients a thread adds up

// The same fields, in the same order, as in styled_conv_cuda.py.
struct Layer {
  int64_t samples, channels, height, width;  // of the result
  int64_t last;                               // channels-last
  int64_t noise_step;                         // from sample to sample; 0: all share one noise
};

template <typename C>
struct After {
  const C* scale;  // [samples, channels]
  const C* noise;  // or null
  const C* bias;   // [channels] or null
  C slope, limit;  // of lrelu; of the absolute value, none if below 0
};

template <typename C>
__device__ __forceinline__ C finished(C z, C scale, C noise, C bias, C slope, C limit) {
  C v = z * scale + noise + bias;
  v = v > C(0) ? v : v * slope;
  return limit < C(0) ? v : v > limit ? limit : v < -limit ? -limit : v;
}

// y may be z: every element is read before it is written, by the same thread.
template <typename T, int N, bool LAST>
__global__ void __launch_bounds__(THREADS)
finish_kernel(const T* z, Layer layer, After<Compute<T>> after, T* y) {
  using C = Compute<T>;
  const int64_t pixels = layer.height * layer.width;
  const int64_t start = thread_index() * N;
  if (start >= layer.samples * layer.channels * pixels) return;
  C values[N];
  load<T, N>(z + start, values);
  const int64_t line = start / (LAST ? layer.channels : pixels);
  const int64_t within = start - line * (LAST ? layer.channels : pixels);
  const int64_t sample = line / (LAST ? pixels : layer.channels);
  const int64_t rest = line - sample * (LAST ? pixels : layer.channels);
  const int64_t channel = LAST ? within : rest, pixel = LAST ? rest : within;
  const C* scale = after.scale + sample * layer.channels + channel;
  const C* bias = after.bias ? after.bias + channel : nullptr;
  const C* noise = after.noise ? after.noise + sample * layer.noise_step + pixel : nullptr;
#pragma unroll
  for (int i = 0; i < N; i++) {
    const int c = LAST ? i : 0, p = LAST ? 0 : i;
    values[i] = finished(values[i], scale[c], noise ? noise[p] : C(0),
                         bias ? bias[c] : C(0), after.slope, after.limit);
  }
  store<T, N>(y + start, values);
}

// z: [height + 1, width + 1] pixels, with one of padding on each side.
template <typename T, int N, bool LAST>
__global__ void __launch_bounds__(THREADS)
filter_kernel(const T* __restrict__ z, const Compute<T>* __restrict__ filter, Compute<T> gain,
              Layer layer, After<Compute<T>> after, T* __restrict__ y) {
  static_assert(LAST || N == 1, "neighbors are channels");
  using C = Compute<T>;
  const int64_t strips = (layer.height + ROWS - 1) / ROWS;
  const int64_t fast = LAST ? layer.channels / N : 1, slow = LAST ? 1 : layer.channels;
  int64_t index = thread_index();
  if (index >= layer.samples * slow * strips * layer.width * fast) return;
  const int64_t next = index / fast, first_channel = (index - next * fast) * N;
  const int64_t line = next / layer.width;
  const int x = int(next - line * layer.width);
  const int64_t plane = line / strips;
  const int top = int(line - plane * strips) * ROWS;
  const int64_t sample = LAST ? plane : plane / slow;
  const int64_t channel = LAST ? first_channel : plane - sample * slow;
  const int height = int(layer.height), width = int(layer.width);
  const int64_t step = LAST ? layer.channels : 1;  // from pixel to pixel

  C taps[TAPS][TAPS];  // reversed, since the filter is convolved
#pragma unroll
  for (int k = 0; k < TAPS * TAPS; k++)
    taps[k / TAPS][k % TAPS] = filter[TAPS * TAPS - 1 - k] * gain;
  const T* from = z + plane * (layer.height + 1) * (layer.width + 1) * step + first_channel;
  C sums[ROWS][N] = {};
#pragma unroll
  for (int i = 0; i < ROWS + TAPS - 1; i++) {
    const int row = top + i - 1;
    if (row < 0 || row > height) continue;
#pragma unroll
    for (int j = 0; j < TAPS; j++) {
      const int column = x + j - 1;
      if (column < 0 || column > width) continue;
      C values[N];
      load<T, N>(from + (int64_t(row) * (width + 1) + column) * step, values);
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        if (i < r || i >= r + TAPS) continue;
#pragma unroll
        for (int k = 0; k < N; k++) sums[r][k] += taps[i - r][j] * values[k];
      }
    }
  }

  C scale[N], bias[N];
#pragma unroll
  for (int k = 0; k < N; k++) {
    scale[k] = after.scale[sample * layer.channels + channel + k];
    bias[k] = after.bias ? after.bias[channel + k] : C(0);
  }
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    if (top + r >= height) break;
    const int64_t pixel = int64_t(top + r) * width + x;
    const C noise = after.noise ? after.noise[sample * layer.noise_step + pixel] : C(0);
#pragma unroll
    for (int k = 0; k < N; k++)
      sums[r][k] = finished(sums[r][k], scale[k], noise, bias[k], after.slope, after.limit);
    store<T, N>(y + (plane * layer.height * layer.width + pixel) * step + first_channel, sums[r]);
  }
}

// From the gradient of y: the gradient of the value that scale multiplies, and for each of `groups`
// groups of pixels the sum of gradient * (z * scale) over values that are not clamped, [samples,
// channels, groups], or channels last. The pixels of a group are `groups` apart, so that
// neighboring threads read neighboring pixels.
template <typename T, int N, bool LAST>
__global__ void __launch_bounds__(THREADS)
backward_kernel(const T* __restrict__ y, const T* __restrict__ dy, Layer layer,
                After<Compute<T>> after, int64_t groups, T* __restrict__ dz,
                Compute<T>* __restrict__ sums) {
  using C = Compute<T>;
  const int64_t pixels = layer.height * layer.width;
  const int64_t units = LAST ? pixels : pixels / N;  // of a channel, or of N channels
  const int64_t lines = LAST ? layer.channels / N : layer.channels;
  const int64_t index = thread_index();
  if (index >= layer.samples * lines * groups) return;
  const int64_t fast = LAST ? lines : groups;
  const int64_t rest = index / fast, within = index - rest * fast;
  const int64_t sample = rest / (LAST ? groups : lines);
  const int64_t other = rest - sample * (LAST ? groups : lines);
  const int64_t group = LAST ? other : within, channel = LAST ? within * N : other;
  const int64_t plane = LAST ? sample * pixels * layer.channels + channel
                             : (sample * layer.channels + channel) * pixels;
  const C* noise = after.noise ? after.noise + sample * layer.noise_step : nullptr;

  C scale[LAST ? N : 1], bias[LAST ? N : 1], sum[LAST ? N : 1] = {};
#pragma unroll
  for (int k = 0; k < (LAST ? N : 1); k++) {
    scale[k] = after.scale[sample * layer.channels + channel + k];
    bias[k] = after.bias ? after.bias[channel + k] : C(0);
  }
  for (int64_t unit = group; unit < units; unit += groups) {
    const int64_t at = plane + unit * (LAST ? layer.channels : N);
    C given[N], gradient[N];
    load<T, N>(y + at, given);
    load<T, N>(dy + at, gradient);
#pragma unroll
    for (int i = 0; i < N; i++) {
      const int k = LAST ? i : 0;
      const bool positive = given[i] > C(0);
      const C before = positive ? given[i] : given[i] / after.slope;  // before lrelu
      const bool inside = after.limit < C(0) || (given[i] < after.limit && given[i] > -after.limit);
      const C g = inside ? (positive ? gradient[i] : gradient[i] * after.slope) : C(0);
      const C own = noise ? noise[LAST ? unit : unit * N + i] : C(0);
      sum[k] += g * (before - own - bias[k]);
      gradient[i] = g * scale[k];
    }
    store<T, N>(dz + at, gradient);
  }
#pragma unroll
  for (int k = 0; k < (LAST ? N : 1); k++)
    sums[LAST ? (sample * groups + group) * layer.channels + channel + k
              : (sample * layer.channels + channel) * groups + group] = sum[k];
}

// Calls `call(N, LAST)` with constants: 16 bytes at once if the number of channels (last) or pixels
// is divisible and every pointer is aligned.
template <typename T, typename Call>
int with_layout(const Layer& layer, bool all_aligned, Call call) {
  constexpr int N = LANES<T>;
  const int64_t neighbors = layer.last ? layer.channels : layer.height * layer.width;
  const bool vectors = all_aligned && neighbors % N == 0;
  using One = std::integral_constant<int, 1>;
  using Many = std::integral_constant<int, N>;
  if (layer.last) return vectors ? call(Many(), std::true_type()) : call(One(), std::true_type());
  return vectors ? call(Many(), std::false_type()) : call(One(), std::false_type());
}

template <typename C>
After<C> after_of(const void* scale, const void* noise, const void* bias, double slope,
                  double limit) {
  return {static_cast<const C*>(scale), static_cast<const C*>(noise), static_cast<const C*>(bias),
          C(slope), C(limit)};
}

}  // namespace

// y from z of the same size; y may be z.
EXPORT int styled_conv_finish(int type, const void* z, const void* scale, const void* noise,
                              const void* bias, double slope, double limit, const Layer* given,
                              void* y, void* stream) {
  const Layer layer = *given;
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const auto after = after_of<Compute<T>>(scale, noise, bias, slope, limit);
    return with_layout<T>(layer, aligned(z) && aligned(y), [&](auto n, auto last) {
      return launch(finish_kernel<T, n(), last()>,
                    layer.samples * layer.channels * layer.height * layer.width / n(), stream,
                    static_cast<const T*>(z), layer, after, static_cast<T*>(y));
    });
  });
}

// y from z that is one pixel higher and wider, filtered with 4x4 taps times gain.
EXPORT int styled_conv_filter(int type, const void* z, const void* filter, double gain,
                              const void* scale, const void* noise, const void* bias, double slope,
                              double limit, const Layer* given, void* y, void* stream) {
  const Layer layer = *given;
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    using C = Compute<T>;
    const auto after = after_of<C>(scale, noise, bias, slope, limit);
    return with_layout<T>(layer, aligned(z) && aligned(y), [&](auto n, auto last) {
      constexpr int N = last() ? n() : 1;
      const int64_t strips = (layer.height + ROWS - 1) / ROWS;
      return launch(filter_kernel<T, N, last()>,
                    layer.samples * layer.channels / N * strips * layer.width, stream,
                    static_cast<const T*>(z), static_cast<const C*>(filter), C(gain), layer, after,
                    static_cast<T*>(y));
    });
  });
}

// The number of groups of pixels that `styled_conv_backward` adds up.
EXPORT int64_t styled_conv_groups(const Layer* layer) {
  return (layer->height * layer->width + PER_THREAD - 1) / PER_THREAD;
}

// dz and sums from y and dy; the gradient of scale is the total of the sums divided by scale.
EXPORT int styled_conv_backward(int type, const void* y, const void* dy, const void* scale,
                                const void* noise, const void* bias, double slope, double limit,
                                const Layer* given, void* dz, void* sums, void* stream) {
  const Layer layer = *given;
  const int64_t groups = styled_conv_groups(given);
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    using C = Compute<T>;
    const auto after = after_of<C>(scale, noise, bias, slope, limit);
    return with_layout<T>(layer, aligned(y) && aligned(dy) && aligned(dz), [&](auto n, auto last) {
      const int64_t lines = last() ? layer.channels / n() : layer.channels;
      return launch(backward_kernel<T, n(), last()>, layer.samples * lines * groups, stream,
                    static_cast<const T*>(y), static_cast<const T*>(dy), layer, after, groups,
                    static_cast<T*>(dz), static_cast<C*>(sums));
    });
  });
}
