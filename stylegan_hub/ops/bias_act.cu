// Bias, activation, gain and clamp in one pass, with first and second derivative.
//
//     v = act(x + bias) * gain,  y = clamp(v)
//
//     order 0: y
//     order 1: dy * dv/dx, 0 where y is clamped           (dy: gradient of y)
//     order 2: dy * ddx * d2v/dx2, 0 where y is clamped   (ddx: gradient of order 1's result)
//
// Every order starts from x itself, so that gradients depend neither on the rounding of y nor on
// the sign or size of the gain. Pictures may have any dense layout: the bias of element i is number
// i / step % channels. Each thread computes 16 bytes.

#include "kernels.cuh"

namespace {

enum Act { LINEAR, RELU, LRELU, TANH, SIGMOID, ELU, SELU, SOFTPLUS, SWISH };

constexpr double SELU_ALPHA = 1.6732632423543772, SELU_SCALE = 1.0507009873554805;
constexpr double LINE_FROM = 20;  // from here on softplus is linear, as in PyTorch

template <typename C>
__device__ __forceinline__ C sigmoid(C u) {
  return C(1) / (C(1) + exp(-u));
}

// The activation and its derivatives with respect to u. The limits of branches and the treatment of
// NaN are those of PyTorch.
template <int ACT, typename C>
__device__ __forceinline__ C activated(C u, C alpha) {
  if constexpr (ACT == RELU) return u < C(0) ? C(0) : u;
  if constexpr (ACT == LRELU) return u > C(0) ? u : u * alpha;
  if constexpr (ACT == TANH) return tanh(u);
  if constexpr (ACT == SIGMOID) return sigmoid(u);
  if constexpr (ACT == ELU) return u > C(0) ? u : expm1(u);
  if constexpr (ACT == SELU)
    return C(SELU_SCALE) * (u > C(0) ? u : C(SELU_ALPHA) * expm1(u));
  if constexpr (ACT == SOFTPLUS) return u > C(LINE_FROM) ? u : log1p(exp(u));
  if constexpr (ACT == SWISH) return u * sigmoid(u);
  return u;
}

template <int ACT, typename C>
__device__ __forceinline__ C slope(C u, C alpha) {
  if constexpr (ACT == RELU) return u > C(0) ? C(1) : C(0);
  if constexpr (ACT == LRELU) return u > C(0) ? C(1) : alpha;
  if constexpr (ACT == TANH) {
    const C t = tanh(u);
    return C(1) - t * t;
  }
  if constexpr (ACT == SIGMOID) {
    const C s = sigmoid(u);
    return s * (C(1) - s);
  }
  if constexpr (ACT == ELU) return u > C(0) ? C(1) : exp(u);
  if constexpr (ACT == SELU)
    return C(SELU_SCALE) * (u > C(0) ? C(1) : C(SELU_ALPHA) * exp(u));
  if constexpr (ACT == SOFTPLUS) return u > C(LINE_FROM) ? C(1) : sigmoid(u);
  if constexpr (ACT == SWISH) {
    const C s = sigmoid(u);
    return s * (C(1) + u * (C(1) - s));
  }
  return C(1);
}

template <int ACT, typename C>
__device__ __forceinline__ C curvature(C u) {
  if constexpr (ACT == TANH) {
    const C t = tanh(u);
    return C(-2) * t * (C(1) - t * t);
  }
  if constexpr (ACT == SIGMOID) {
    const C s = sigmoid(u);
    return s * (C(1) - s) * (C(1) - C(2) * s);
  }
  if constexpr (ACT == ELU) return u > C(0) ? C(0) : exp(u);
  if constexpr (ACT == SELU) return u > C(0) ? C(0) : C(SELU_SCALE * SELU_ALPHA) * exp(u);
  if constexpr (ACT == SOFTPLUS) {
    const C s = sigmoid(u);
    return u > C(LINE_FROM) ? C(0) : s * (C(1) - s);
  }
  if constexpr (ACT == SWISH) {
    const C s = sigmoid(u);
    return s * (C(1) - s) * (C(2) + u * (C(1) - C(2) * s));
  }
  return C(0);
}

struct Layout {
  int64_t count, step, channels;
  bool vectors;  // every pointer is a multiple of 16 bytes
};

template <typename T, int N>
__device__ __forceinline__ void load_some(const T* p, int lanes, bool vectors,
                                          Compute<T> (&values)[N]) {
  if (vectors && lanes == N) {
    load<T, N>(p, values);
  } else {
#pragma unroll
    for (int i = 0; i < N; i++) values[i] = i < lanes ? widened(p[i]) : Compute<T>(0);
  }
}

template <typename T, int ACT>
__global__ void __launch_bounds__(THREADS)
bias_act_kernel(int order, const T* __restrict__ x, const T* __restrict__ bias,
                const T* __restrict__ dy, const T* __restrict__ ddx, T* __restrict__ result,
                Layout layout, Compute<T> alpha, Compute<T> gain, Compute<T> limit) {
  using C = Compute<T>;
  constexpr int N = LANES<T>;
  const int64_t start = thread_index() * N;
  if (start >= layout.count) return;
  const int lanes = layout.count - start < N ? int(layout.count - start) : N;
  C u[N], found[N];
  load_some<T, N>(x + start, lanes, layout.vectors, u);
  if (bias) {  // one division for each thread; from there, channels are counted up
    int64_t channel = start / layout.step, within = start - channel * layout.step;
    channel %= layout.channels;
#pragma unroll
    for (int i = 0; i < N; i++) {
      u[i] += widened(bias[channel]);
      if (++within == layout.step) {
        within = 0;
        if (++channel == layout.channels) channel = 0;
      }
    }
  }
  if (order == 0) {
#pragma unroll
    for (int i = 0; i < N; i++) {
      const C v = activated<ACT>(u[i], alpha) * gain;
      found[i] = limit < C(0) ? v : v > limit ? limit : v < -limit ? -limit : v;
    }
  } else {
    load_some<T, N>(dy + start, lanes, layout.vectors, found);
    if (order == 2) {
      C factor[N];
      load_some<T, N>(ddx + start, lanes, layout.vectors, factor);
#pragma unroll
      for (int i = 0; i < N; i++) found[i] *= factor[i];
    }
#pragma unroll
    for (int i = 0; i < N; i++) {
      const C v = activated<ACT>(u[i], alpha) * gain;
      const bool inside = limit < C(0) || (v >= -limit && v <= limit);
      const C factor = order == 1 ? slope<ACT>(u[i], alpha) : curvature<ACT>(u[i]);
      found[i] = inside ? found[i] * factor * gain : C(0);
    }
  }
  if (layout.vectors && lanes == N) {
    store<T, N>(result + start, found);
  } else {
#pragma unroll
    for (int i = 0; i < N; i++)
      if (i < lanes) narrow(found[i], result[start + i]);
  }
}

}  // namespace

// dy and ddx are null below their order; bias may be null. limit: of the absolute value; none if
// below 0.
EXPORT int bias_act(int type, int act, int order, const void* x, const void* bias, const void* dy,
                    const void* ddx, void* result, int64_t count, int64_t step, int64_t channels,
                    double alpha, double gain, double limit, void* stream) {
  const bool vectors = aligned(x) && aligned(dy) && aligned(ddx) && aligned(result);
  const Layout layout{count, step, channels, vectors};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    using C = Compute<T>;
    const auto run = [&](auto kernel) {
      return launch(kernel, (count + LANES<T> - 1) / LANES<T>, stream, order,
                    static_cast<const T*>(x), static_cast<const T*>(bias),
                    static_cast<const T*>(dy), static_cast<const T*>(ddx),
                    static_cast<T*>(result), layout, C(alpha), C(gain), C(limit));
    };
    switch (act) {
      case LINEAR: return run(bias_act_kernel<T, LINEAR>);
      case RELU: return run(bias_act_kernel<T, RELU>);
      case LRELU: return run(bias_act_kernel<T, LRELU>);
      case TANH: return run(bias_act_kernel<T, TANH>);
      case SIGMOID: return run(bias_act_kernel<T, SIGMOID>);
      case ELU: return run(bias_act_kernel<T, ELU>);
      case SELU: return run(bias_act_kernel<T, SELU>);
      case SOFTPLUS: return run(bias_act_kernel<T, SOFTPLUS>);
      case SWISH: return run(bias_act_kernel<T, SWISH>);
      default: return int(cudaErrorInvalidValue);
    }
  });
}
