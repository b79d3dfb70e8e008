// One 3x3 layer of StyleGAN2's synthesis network on a CPU, with Winograd's minimal filtering.
//
//     y = clamp(lrelu(conv(x * styles) * scale + noise + bias))
//
// for frozen weights that all samples share (StyleGAN2, section 2.2: modulation scales the input
// channels, demodulation the output channels). Pictures are [n, h, w, channels], float32.
//
// F(4x4, 3x3) of Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks": a tile of
// 4x4 outputs costs 36 multiply-adds for each pair of channels, where the plain sum costs 144. With
// `up`, the layer doubles the size: zeros are inserted, the filter [1, 3, 3, 1] smooths, and then
// comes the convolution. The filter is linear and commutes with it, so it is a part of the transform
// of the input tiles, and the enlarged features are never written.
//
// Weights become U, tiles of x become V, 36 matrix products give M = V U, and M becomes y with
// everything that comes after the convolution. The gradient goes the same way back, through the
// adjoint of each step. What matters is where U, V and M lie meanwhile:
//
// - few channels: U fits the cache. Each thread takes small groups of tiles through all steps.
// - many channels: U does not fit. All tiles become V; then each thread takes panels of output
//   channels through all steps, and makes their part of U when it is needed.

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 14;
#elif defined(__AVX2__) || defined(__AVX__)
constexpr int LANES = 8, ROWS = 6;
#else
constexpr int LANES = 4, ROWS = 6;
#endif
constexpr int PANEL = 2 * LANES;                // output channels that the inner loop holds
constexpr int64_t CACHED_BYTES = int64_t(10) << 20;  // of U, for the way of few channels
constexpr int64_t GROUP_BYTES = int64_t(768) << 10;  // of V and M of a group: the second cache
constexpr int64_t BLOCK_BYTES = int64_t(20) << 20;   // of V in the way of many channels: the third
constexpr int64_t KEPT_BYTES = int64_t(64) << 20;  // of a thread's workspace
constexpr int K_CHUNK = 16;

typedef float Vec __attribute__((vector_size(LANES * 4)));

inline Vec splat(float value) { return value - Vec{}; }

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

inline Vec load(const float* p, int64_t count) {  // the rest is 0
  if (count >= LANES) return load(p);
  Vec v = splat(0.f);
  std::memcpy(&v, p, count * sizeof(float));
  return v;
}

inline void store(float* p, Vec v, int64_t count = LANES) {
  if (count >= LANES)
    std::memcpy(p, &v, sizeof(v));
  else
    std::memcpy(p, &v, count * sizeof(float));
}

inline int64_t up_to(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Memory for U, V and M. One is kept, because new pages cost more than what is computed in them; a
// second call at the same time, from another thread, has one of its own.
class Workspace {
 public:
  explicit Workspace(int64_t floats) : kept_(kept_lock, std::try_to_lock) {
    if (!kept_) {
      data_.reset(new float[floats]);
    } else if (floats > kept_size) {
      kept.reset();
      kept_size = 0;
      kept.reset(new float[floats]);
      kept_size = floats;
    }
    next_ = kept_ ? kept.get() : data_.get();
  }
  ~Workspace() {
    if (kept_ && kept_size * int64_t(sizeof(float)) > KEPT_BYTES) {
      kept.reset();
      kept_size = 0;
    }
  }
  float* take(int64_t floats) {
    float* taken = next_;
    next_ += floats;
    return taken;
  }

 private:
  static std::mutex kept_lock;
  static std::unique_ptr<float[]> kept;
  static int64_t kept_size;
  std::unique_lock<std::mutex> kept_;
  std::unique_ptr<float[]> data_;
  float* next_;
};
std::mutex Workspace::kept_lock;
std::unique_ptr<float[]> Workspace::kept;
int64_t Workspace::kept_size = 0;

// The transforms of F(4x4, 3x3), along one axis, with the points 0, +-A, +-B and infinity. The usual
// 1 and 2 in place of A and B lose four times as much to rounding.

constexpr float A = 0.70710678f, B = 1.41421356f;  // of these, A * A = 1 / 2 and B * B = 2 are used

inline void weights_1d(Vec a, Vec b, Vec c, Vec* u) {  // 3 -> 6
  const Vec near = (a + 0.5f * c) * (-2.f / 3), near_odd = b * (-2.f / 3 * A);
  const Vec far = (a + 2.f * c) * (1.f / 6), far_odd = b * (B / 6);
  u[0] = a;
  u[1] = near + near_odd;
  u[2] = near - near_odd;
  u[3] = far + far_odd;
  u[4] = far - far_odd;
  u[5] = c;
}

template <int S>
inline void tile_1d(const Vec* d, Vec* v) {  // 6 -> 6
  const Vec near = d[4 * S] - 2.f * d[2 * S], near_odd = A * (d[3 * S] - 2.f * d[S]);
  const Vec far = d[4 * S] - 0.5f * d[2 * S], far_odd = B * (d[3 * S] - 0.5f * d[S]);
  v[0] = d[0] - 2.5f * d[2 * S] + d[4 * S];
  v[S] = near + near_odd;
  v[2 * S] = near - near_odd;
  v[3 * S] = far + far_odd;
  v[4 * S] = far - far_odd;
  v[5 * S] = d[S] - 2.5f * d[3 * S] + d[5 * S];
}

template <int S>
inline void tile_adjoint_1d(const Vec* v, Vec* d) {  // 6 -> 6
  const Vec near = v[S] + v[2 * S], near_odd = A * (v[S] - v[2 * S]);
  const Vec far = v[3 * S] + v[4 * S], far_odd = B * (v[3 * S] - v[4 * S]);
  d[0] = v[0];
  d[S] = v[5 * S] - 2.f * near_odd - 0.5f * far_odd;
  d[2 * S] = -2.5f * v[0] - 2.f * near - 0.5f * far;
  d[3 * S] = near_odd + far_odd - 2.5f * v[5 * S];
  d[4 * S] = v[0] + near + far;
  d[5 * S] = v[5 * S];
}

template <int S>
inline void output_1d(const Vec* m, Vec* y) {  // 6 -> 4
  const Vec near = m[S] + m[2 * S], near_odd = A * (m[S] - m[2 * S]);
  const Vec far = m[3 * S] + m[4 * S], far_odd = B * (m[3 * S] - m[4 * S]);
  y[0] = m[0] + near + far;
  y[S] = near_odd + far_odd;
  y[2 * S] = 0.5f * near + 2.f * far;
  y[3 * S] = 0.5f * near_odd + 2.f * far_odd + m[5 * S];
}

template <int S>
inline void output_adjoint_1d(const Vec* y, Vec* m) {  // 4 -> 6
  const Vec near = y[0] + 0.5f * y[2 * S], near_odd = A * (y[S] + 0.5f * y[3 * S]);
  const Vec far = y[0] + 2.f * y[2 * S], far_odd = B * (y[S] + 2.f * y[3 * S]);
  m[0] = y[0];
  m[S] = near + near_odd;
  m[2 * S] = near - near_odd;
  m[3 * S] = far + far_odd;
  m[4 * S] = far - far_odd;
  m[5 * S] = y[3 * S];
}

// The filter [1, 3, 3, 1] / 4 on inserted zeros, along one axis. A tile sees six enlarged samples,
// from the one before its first output on, which come from four samples.

template <int S>
inline void enlarge_1d(const Vec* x, Vec* u) {  // 4 -> 6
  const Vec a = x[0] * 0.25f, b = x[S] * 0.25f, c = x[2 * S] * 0.25f, d = x[3 * S] * 0.25f;
  u[0] = 3.f * a + b;
  u[S] = a + 3.f * b;
  u[2 * S] = 3.f * b + c;
  u[3 * S] = b + 3.f * c;
  u[4 * S] = 3.f * c + d;
  u[5 * S] = c + 3.f * d;
}

template <int S>
inline void enlarge_adjoint_1d(const Vec* u, Vec* x) {  // 6 -> 4
  x[0] = (3.f * u[0] + u[S]) * 0.25f;
  x[S] = (u[0] + 3.f * (u[S] + u[2 * S]) + u[3 * S]) * 0.25f;
  x[2 * S] = (u[2 * S] + 3.f * (u[3 * S] + u[4 * S]) + u[5 * S]) * 0.25f;
  x[3 * S] = (u[4 * S] + 3.f * u[5 * S]) * 0.25f;
}

struct Layer {
  int64_t n, h, w, c_in, c_out;  // h, w: of the output
  bool up;

  int64_t tile_rows() const { return (h + 3) / 4; }
  int64_t tile_columns() const { return (w + 3) / 4; }
  int64_t tiles() const { return n * tile_rows() * tile_columns(); }
  int64_t h_in() const { return up ? h / 2 : h; }
  int64_t w_in() const { return up ? w / 2 : w; }
  int patch() const { return up ? 4 : 6; }      // samples of x along an axis that a tile sees
  int stride() const { return up ? 2 : 4; }     // from tile to tile
};

struct Place {
  int64_t sample, row, column;  // of a tile
};

Place place_of(const Layer& layer, int64_t tile) {
  const int64_t columns = layer.tile_columns(), each = layer.tile_rows() * columns;
  return {tile / each, tile % each / columns, tile % columns};
}

// A power of two would put all 36 into the same few lines of the cache.
int64_t u_step(int64_t k_count) { return (k_count + 1) * PANEL; }

// U of one panel, [36][u_step(k)], of weights [c_out, c_in, 3, 3]. k counts the channels that are
// summed over: those of the input, or of the output if `adjoint`.
void transform_weights(const Layer& layer, const float* weight, bool adjoint, int64_t panel,
                       float* u) {
  const int64_t k_count = adjoint ? layer.c_out : layer.c_in;
  const int64_t k_step = adjoint ? layer.c_in * 9 : 9, column_step = adjoint ? 9 : layer.c_in * 9;
  const int64_t columns = adjoint ? layer.c_in : layer.c_out;
  const int64_t width = std::min<int64_t>(PANEL, columns - panel * PANEL);
  alignas(64) float taps[9][K_CHUNK][PANEL];
  if (width < PANEL) std::memset(taps, 0, sizeof(taps));
  for (int64_t start = 0; start < k_count; start += K_CHUNK) {
    const int64_t count = std::min<int64_t>(K_CHUNK, k_count - start);
    for (int64_t outer = 0; outer < (adjoint ? count : width); outer++)
      for (int64_t inner = 0; inner < (adjoint ? width : count); inner++) {
        const int64_t k = adjoint ? outer : inner, column = adjoint ? inner : outer;
        const float* kernel = weight + (start + k) * k_step + (panel * PANEL + column) * column_step;
        // A transposed convolution, which upsampling is, turns its kernel.
        for (int tap = 0; tap < 9; tap++) taps[tap][k][column] = kernel[layer.up ? 8 - tap : tap];
      }
    for (int64_t k = 0; k < count; k++)
      for (int half = 0; half < PANEL; half += LANES) {
        Vec g[9], t[18], line[6];
        for (int tap = 0; tap < 9; tap++) g[tap] = load(taps[tap][k] + half);
        for (int x = 0; x < 3; x++) {  // t[6][3]
          weights_1d(g[x], g[3 + x], g[6 + x], line);
          for (int y = 0; y < 6; y++) t[y * 3 + x] = line[y];
        }
        for (int y = 0; y < 6; y++) {
          weights_1d(t[y * 3], t[y * 3 + 1], t[y * 3 + 2], line);
          for (int x = 0; x < 6; x++)
            store(u + (y * 6 + x) * u_step(k_count) + (start + k) * PANEL + half, line[x]);
        }
      }
  }
}

// V[36][rows][step] of `count` tiles from `first` on; styles [n, c] scale the channels.
void transform_tiles(const Layer& layer, const float* x, const float* styles, int64_t first,
                     int64_t count, int64_t rows, int64_t step, float* v) {
  const int64_t c = layer.c_in, h = layer.h_in(), w = layer.w_in();
  const int patch = layer.patch();
  for (int64_t tile = 0; tile < count; tile++) {
    const Place at = place_of(layer, first + tile);
    const int64_t top = at.row * layer.stride() - 1, left = at.column * layer.stride() - 1;
    const float* sample = x + at.sample * h * w * c;
    for (int64_t k = 0; k < c; k += LANES) {
      const int64_t lanes = std::min<int64_t>(LANES, c - k);
      const Vec s = load(styles + at.sample * c + k, lanes);
      Vec d[36], t[36];
      for (int i = 0; i < patch; i++)
        for (int j = 0; j < patch; j++) {
          const int64_t y = top + i, z = left + j;
          const bool inside = y >= 0 && y < h && z >= 0 && z < w;
          d[i * patch + j] = inside ? load(sample + (y * w + z) * c + k, lanes) * s : splat(0.f);
        }
      if (layer.up) {
        Vec e[24];
        for (int j = 0; j < 4; j++) enlarge_1d<4>(d + j, e + j);  // e[6][4]
        for (int j = 0; j < 4; j++) tile_1d<4>(e + j, d + j);     // d[6][4]
        for (int i = 0; i < 6; i++) {
          Vec line[6];
          enlarge_1d<1>(d + i * 4, line);
          tile_1d<1>(line, t + i * 6);
        }
      } else {
        Vec e[36];
        for (int j = 0; j < 6; j++) tile_1d<6>(d + j, e + j);
        for (int i = 0; i < 6; i++) tile_1d<1>(e + i * 6, t + i * 6);
      }
      for (int xi = 0; xi < 36; xi++) store(v + (xi * rows + tile) * step + k, t[xi], lanes);
    }
  }
}

// M[ROWS or fewer][PANEL] = V[.][k] U[k][PANEL]
template <int COUNT>
inline void product(const float* v, int64_t v_step, const float* u, int64_t k_count, float* m) {
  Vec sums[COUNT][2] = {};
  for (int64_t k = 0; k < k_count; k++) {
    const Vec a = load(u + k * PANEL), b = load(u + k * PANEL + LANES);
#pragma GCC unroll 16
    for (int r = 0; r < COUNT; r++) {
      const float value = v[r * v_step + k];
      sums[r][0] += value * a;
      sums[r][1] += value * b;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < COUNT; r++) {
    store(m + r * PANEL, sums[r][0]);
    store(m + r * PANEL + LANES, sums[r][1]);
  }
}

template <int COUNT>
void product_of(int count, const float* v, int64_t v_step, const float* u, int64_t k_count, float* m) {
  if constexpr (COUNT == 1)
    product<1>(v, v_step, u, k_count, m);
  else if (count == COUNT)
    product<COUNT>(v, v_step, u, k_count, m);
  else
    product_of<COUNT - 1>(count, v, v_step, u, k_count, m);
}

// M[36][rows][PANEL] = V[36][rows][step] U[36][u_step(k)], of `count` rows.
void multiply(const float* v, int64_t step, const float* u, int64_t k_count, int64_t count,
              int64_t rows, float* m) {
  for (int64_t xi = 0; xi < 36; xi++)
    for (int64_t row = 0; row < count; row += ROWS)
      product_of<ROWS>(std::min<int64_t>(ROWS, count - row), v + (xi * rows + row) * step, step,
                       u + xi * u_step(k_count), k_count, m + (xi * rows + row) * PANEL);
}

struct After {  // what comes after the convolution
  const float* scale;  // [n, c]
  const float* noise;  // [n or 1, h, w] or null
  int64_t noise_step;  // from sample to sample
  const float* bias;   // [c]
  float slope;         // of lrelu
  float clamp;         // below 0: none
};

// y of a panel's channels, of `count` tiles from `first` on, from M[36][rows][PANEL].
void finish_tiles(const Layer& layer, const float* m, int64_t first, int64_t count, int64_t rows,
                  int64_t panel, const After& after, float* y) {
  const int64_t c = layer.c_out, h = layer.h, w = layer.w;
  const Vec high = splat(after.clamp), zero = splat(0.f);
  for (int64_t tile = 0; tile < count; tile++) {
    const Place at = place_of(layer, first + tile);
    const float* noise = after.noise ? after.noise + at.sample * after.noise_step : nullptr;
    for (int half = 0; half < PANEL; half += LANES) {
      const int64_t k = panel * PANEL + half, lanes = std::min<int64_t>(LANES, c - k);
      if (lanes <= 0) break;
      Vec in[36], t[24], out[16];
      for (int xi = 0; xi < 36; xi++) in[xi] = load(m + (xi * rows + tile) * PANEL + half);
      for (int j = 0; j < 6; j++) output_1d<6>(in + j, t + j);  // t[4][6]
      for (int i = 0; i < 4; i++) output_1d<1>(t + i * 6, out + i * 4);
      const Vec scale = load(after.scale + at.sample * c + k, lanes);
      const Vec bias = load(after.bias + k, lanes);
      for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
          const int64_t row = at.row * 4 + i, column = at.column * 4 + j;
          if (row >= h || column >= w) continue;
          Vec value = out[i * 4 + j] * scale + bias;
          if (noise) value += splat(noise[row * w + column]);
          value = value > zero ? value : value * after.slope;
          if (after.clamp >= 0) {
            value = value > high ? high : value;
            value = value < -high ? -high : value;
          }
          store(y + ((at.sample * h + row) * w + column) * c + k, value, lanes);
        }
    }
  }
}

// The adjoint of `finish_tiles` without what comes after: M[36][rows][step] of the gradients of the
// convolution's result times scale.
void spread_tiles(const Layer& layer, const float* gradient, const float* scale, int64_t first,
                  int64_t count, int64_t rows, int64_t step, float* m) {
  const int64_t c = layer.c_out, h = layer.h, w = layer.w;
  for (int64_t tile = 0; tile < count; tile++) {
    const Place at = place_of(layer, first + tile);
    for (int64_t k = 0; k < c; k += LANES) {
      const int64_t lanes = std::min<int64_t>(LANES, c - k);
      const Vec s = load(scale + at.sample * c + k, lanes);
      Vec d[16], t[24], out[36];
      for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
          const int64_t row = at.row * 4 + i, column = at.column * 4 + j;
          const float* from = gradient + ((at.sample * h + row) * w + column) * c + k;
          d[i * 4 + j] = row < h && column < w ? load(from, lanes) * s : splat(0.f);
        }
      for (int j = 0; j < 4; j++) output_adjoint_1d<4>(d + j, t + j);  // t[6][4]
      for (int i = 0; i < 6; i++) output_adjoint_1d<1>(t + i * 4, out + i * 6);
      for (int xi = 0; xi < 36; xi++) store(m + (xi * rows + tile) * step + k, out[xi], lanes);
    }
  }
}

struct Gradients {  // of x and of the styles for each row of tiles; both begin as 0
  float* x;         // [n, h, w, c_in]
  float* styles;    // [n * tile rows, c_in]
};

// The adjoint of `transform_tiles`, for a panel's channels: adds what tiles say, V[36][rows][PANEL].
// Tiles overlap: neighbors must not be added at the same time.
void gather_tiles(const Layer& layer, const float* v, int64_t first, int64_t count, int64_t rows,
                  int64_t panel, const float* x, const float* styles, const Gradients& gradients) {
  const int64_t c = layer.c_in, h = layer.h_in(), w = layer.w_in();
  const int patch = layer.patch();
  for (int64_t tile = 0; tile < count; tile++) {
    const Place at = place_of(layer, first + tile);
    const int64_t top = at.row * layer.stride() - 1, left = at.column * layer.stride() - 1;
    float* style_gradients =
        gradients.styles + (at.sample * layer.tile_rows() + at.row) * c;
    for (int half = 0; half < PANEL; half += LANES) {
      const int64_t k = panel * PANEL + half, lanes = std::min<int64_t>(LANES, c - k);
      if (lanes <= 0) break;
      const Vec s = load(styles + at.sample * c + k, lanes);
      Vec in[36], t[36], d[36];
      for (int xi = 0; xi < 36; xi++) in[xi] = load(v + (xi * rows + tile) * PANEL + half);
      for (int j = 0; j < 6; j++) tile_adjoint_1d<6>(in + j, t + j);
      if (layer.up) {
        Vec e[24], part[6];
        for (int j = 0; j < 6; j++) enlarge_adjoint_1d<6>(t + j, e + j);  // e[4][6]
        for (int i = 0; i < 4; i++) {
          tile_adjoint_1d<1>(e + i * 6, part);
          enlarge_adjoint_1d<1>(part, d + i * 4);
        }
      } else {
        for (int i = 0; i < 6; i++) tile_adjoint_1d<1>(t + i * 6, d + i * 6);
      }
      Vec style_gradient = load(style_gradients + k, lanes);
      for (int i = 0; i < patch; i++)
        for (int j = 0; j < patch; j++) {
          const int64_t y = top + i, z = left + j;
          if (y < 0 || y >= h || z < 0 || z >= w) continue;
          const int64_t place = ((at.sample * h + y) * w + z) * c + k;
          const Vec value = d[i * patch + j];
          style_gradient += value * load(x + place, lanes);
          store(gradients.x + place, load(gradients.x + place, lanes) + value * s, lanes);
        }
      store(style_gradients + k, style_gradient, lanes);
    }
  }
}

// The gradient before what comes after the convolution, [n, h, w, c], and for each sample and row
// the sum over the row of it times the convolution's result times scale, [n * h, c].
void before_activation(const Layer& layer, const float* y, const float* y_gradient,
                       const After& after, float* gradient, float* sums) {
  const int64_t c = layer.c_out;
  const Vec zero = splat(0.f), high = splat(after.clamp);
  at::parallel_for(0, layer.n * layer.h, 1, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; line++) {
      const int64_t sample = line / layer.h, row = line % layer.h;
      const float* noise =
          after.noise ? after.noise + sample * after.noise_step + row * layer.w : nullptr;
      for (int64_t k = 0; k < c; k += LANES) {
        const int64_t lanes = std::min<int64_t>(LANES, c - k);
        const Vec bias = load(after.bias + k, lanes);
        Vec sum = zero;
        for (int64_t column = 0; column < layer.w; column++) {
          const int64_t place = (line * layer.w + column) * c + k;
          const Vec value = load(y + place, lanes);
          Vec g = load(y_gradient + place, lanes), result = value;
          g = value > zero ? g : g * after.slope;
          result = value > zero ? result : result / after.slope;
          if (after.clamp >= 0) {
            g = value < high ? g : zero;
            g = value > -high ? g : zero;
          }
          result -= bias;
          if (noise) result -= splat(noise[column]);
          sum += g * result;
          store(gradient + place, g, lanes);
        }
        store(sums + line * c + k, sum, lanes);
      }
    }
  });
}

// Which way a pass goes, and what it keeps where; `k_count` channels in, `columns` channels out.
struct Plan {
  Plan(const Layer& layer, int64_t k_count, int64_t columns)
      : k_count(k_count),
        panels(up_to(columns, PANEL) / PANEL),
        panel_floats(36 * u_step(k_count)),
        step(up_to(k_count, LANES) + LANES),  // no power of two: these share cache lines badly
        threads(at::get_num_threads()) {
    few_channels = panels * panel_floats * int64_t(sizeof(float)) <= CACHED_BYTES;
    const int64_t each = 36 * sizeof(float) * (few_channels ? step + PANEL : step);
    const int64_t fit = (few_channels ? GROUP_BYTES : BLOCK_BYTES) / each / ROWS * ROWS;
    rows = std::min(layer.tiles(), std::max<int64_t>(fit, 2 * ROWS));
    // A thread's own part of U lasts for one block, and is no use for panels of two threads.
    whole_u = few_channels || rows < layer.tiles() || panels < threads;
  }
  int64_t v_floats() const { return 36 * rows * step; }
  int64_t m_floats() const { return 36 * rows * PANEL; }
  int64_t floats() const {
    const int64_t of_thread = m_floats() + (few_channels ? v_floats() : 0);
    return (few_channels ? 0 : v_floats()) + (whole_u ? panels : threads) * panel_floats +
           threads * of_thread;
  }
  int64_t k_count, panels, panel_floats, step, threads, rows;
  bool few_channels, whole_u;
};

// Both passes: `make_v(first, count, v)` fills V for tiles, `use_m(panel, first, count, m)` takes M.
// With `overlapping`, neighboring tiles are not used at the same time.
template <class MakeV, class UseM>
void run(const Layer& layer, const float* weight, bool adjoint, bool overlapping,
         const MakeV& make_v, const UseM& use_m) {
  const Plan plan = adjoint ? Plan(layer, layer.c_out, layer.c_in) : Plan(layer, layer.c_in, layer.c_out);
  Workspace workspace(plan.floats());
  float* u = workspace.take((plan.whole_u ? plan.panels : plan.threads) * plan.panel_floats);
  float* m = workspace.take(plan.threads * plan.m_floats());
  float* v = workspace.take((plan.few_channels ? plan.threads : 1) * plan.v_floats());
  const auto make_u = [&](int64_t panel, float* to) {
    transform_weights(layer, weight, adjoint, panel, to);
  };
  const int64_t tiles = layer.tiles(), columns = layer.tile_columns();
  if (plan.whole_u)
    at::parallel_for(0, plan.panels, 1, [&](int64_t begin, int64_t end) {
      for (int64_t panel = begin; panel < end; panel++) make_u(panel, u + panel * plan.panel_floats);
    });

  if (plan.few_channels) {
    const auto take = [&](int64_t first, int64_t last) {  // tiles through all steps
      float* own_v = v + at::get_thread_num() * plan.v_floats();
      float* own_m = m + at::get_thread_num() * plan.m_floats();
      for (; first < last; first += plan.rows) {
        const int64_t count = std::min(plan.rows, last - first);
        make_v(first, count, plan.rows, plan.step, own_v);
        for (int64_t panel = 0; panel < plan.panels; panel++) {
          multiply(own_v, plan.step, u + panel * plan.panel_floats, plan.k_count, count, plan.rows,
                   own_m);
          use_m(panel, first, count, plan.rows, own_m);
        }
      }
    };
    if (!overlapping) {
      const int64_t groups = up_to(tiles, plan.rows) / plan.rows;
      at::parallel_for(0, groups, 1, [&](int64_t begin, int64_t end) {
        take(begin * plan.rows, std::min(end * plan.rows, tiles));
      });
      return;
    }
    // Bands of whole rows of tiles touch the next band only: every second one goes first.
    const int64_t band = up_to(plan.rows, columns);
    const int64_t bands = up_to(tiles, band) / band;
    for (int64_t parity = 0; parity < 2; parity++)
      at::parallel_for(0, (bands + 1 - parity) / 2, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++)
          take((2 * i + parity) * band, std::min((2 * i + parity + 1) * band, tiles));
      });
    return;
  }

  for (int64_t first = 0; first < tiles; first += plan.rows) {
    const int64_t count = std::min(plan.rows, tiles - first);
    at::parallel_for(0, count, 4, [&](int64_t begin, int64_t end) {
      make_v(first + begin, end - begin, plan.rows, plan.step, v + begin * plan.step);
    });
    // All tiles of a panel are one thread's, so none overlaps with another thread's.
    at::parallel_for(0, plan.panels, 1, [&](int64_t begin, int64_t end) {
      float* own_m = m + at::get_thread_num() * plan.m_floats();
      for (int64_t panel = begin; panel < end; panel++) {
        float* own_u = u + (plan.whole_u ? panel : at::get_thread_num()) * plan.panel_floats;
        if (!plan.whole_u) make_u(panel, own_u);
        multiply(v, plan.step, own_u, plan.k_count, count, plan.rows, own_m);
        use_m(panel, first, count, plan.rows, own_m);
      }
    });
  }
}

}  // namespace

extern "C" {

// 0, or 1 if there is not enough memory.
int styled_conv(const float* x, const float* weight, const float* styles, const float* scale,
                const float* noise, int64_t noise_step, const float* bias, float slope, float clamp,
                int64_t n, int64_t h, int64_t w, int64_t c_in, int64_t c_out, int up,
                float* y) try {
  const Layer layer{n, h, w, c_in, c_out, up != 0};
  const After after{scale, noise, noise_step, bias, slope, clamp};
  const auto make_v = [&](int64_t first, int64_t count, int64_t rows, int64_t step, float* v) {
    transform_tiles(layer, x, styles, first, count, rows, step, v);
  };
  const auto use_m = [&](int64_t panel, int64_t first, int64_t count, int64_t rows, const float* m) {
    finish_tiles(layer, m, first, count, rows, panel, after, y);
  };
  run(layer, weight, false, false, make_v, use_m);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

// Gradients of x, of styles for each row of tiles [n * tile rows, c_in] (both are zeros before), and
// of scale times scale for each row of pixels [n * h, c_out]. `gradient` [n, h, w, c_out] is room to
// work in.
int styled_conv_backward(const float* x, const float* weight, const float* styles,
                         const float* scale, const float* noise, int64_t noise_step,
                         const float* bias, float slope, float clamp, int64_t n, int64_t h,
                         int64_t w, int64_t c_in, int64_t c_out, int up, const float* y,
                         const float* y_gradient, float* gradient, float* x_gradient,
                         float* style_gradients, float* scale_gradients) try {
  const Layer layer{n, h, w, c_in, c_out, up != 0};
  const After after{scale, noise, noise_step, bias, slope, clamp};
  before_activation(layer, y, y_gradient, after, gradient, scale_gradients);
  const Gradients gradients{x_gradient, style_gradients};
  const auto make_m = [&](int64_t first, int64_t count, int64_t rows, int64_t step, float* m) {
    spread_tiles(layer, gradient, scale, first, count, rows, step, m);
  };
  const auto use_v = [&](int64_t panel, int64_t first, int64_t count, int64_t rows, const float* v) {
    gather_tiles(layer, v, first, count, rows, panel, x, styles, gradients);
  };
  run(layer, weight, true, true, make_m, use_v);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

}  // extern "C"
