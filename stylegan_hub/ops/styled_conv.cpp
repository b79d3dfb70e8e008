// One 3x3 layer of StyleGAN2's synthesis network on a CPU, with Winograd's minimal filtering.
//
//     y = clamp(lrelu(conv(x * styles) * scale + noise + bias))
//
// for frozen weights that all samples share (StyleGAN2, section 2.2: modulation scales the input
// channels, demodulation the output channels). Pictures are [n, h, w, channels], float32.
//
// It uses F(4x4, 3x3) of Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks":
// a tile of 4x4 outputs costs 36 multiply-adds for each pair of channels; the plain sum costs 144.
//
// With `up`, the layer doubles the size: a transposed convolution z of stride 2, then the filter
// [1, 3, 3, 1]. Along an axis, an even sample of z depends on two samples of x, z[2p] = x[p] w[0] +
// x[p - 1] w[2], and an odd one on one, z[2p + 1] = x[p] w[1]. F(4, 2) gives four even samples for
// 5 multiply-adds, and the odd ones take 4: 81 for 8x8 of z; the plain sum takes 144.
//
// Weights become U, 36 matrices; tiles of x become rows of V; M = V U becomes y, including
// everything after the convolution. The gradient takes the same path backward, through the adjoint
// of each step. The speed depends on where U, V and M are stored in between:
//
// - few channels: U fits the cache. Each thread takes small groups of tiles through all steps.
// - many channels: U does not fit. All tiles become V; then each thread takes panels of output
//   channels through all steps, and computes their part of U when it is needed.

#include <ATen/Parallel.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

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
// Shares of this machine's caches; `styled_conv_caches` sets them.
int64_t cached_bytes = int64_t(2) << 20;  // third cache: largest U for the path of few channels
int64_t cache_2 = int64_t(384) << 10;     // second cache: bytes that may be filled
int64_t block_bytes = int64_t(5) << 20;   // third cache: bytes of V in the path of many channels
constexpr uintptr_t LARGE_BYTES = uintptr_t(4) << 20;  // smallest features in large pages
constexpr int64_t KEPT_BYTES = int64_t(64) << 20;  // largest workspace that is kept
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

// New memory comes in pages, and getting a page of 4 kB costs more than writing it, so larger pages
// are requested.
void in_large_pages(float* data, int64_t floats) {
#if defined(MADV_HUGEPAGE)
  const uintptr_t page = 4096, first = up_to(reinterpret_cast<uintptr_t>(data), page);
  const uintptr_t last = reinterpret_cast<uintptr_t>(data + floats) / page * page;
  if (last > first && last - first >= LARGE_BYTES)
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // may be refused
#endif
}

// Memory for U, V and M. One workspace is kept, because new pages cost more than the computation in
// them; a second call at the same time, from another thread, gets its own.
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

// The transforms of F(4x4, 3x3), along one axis, with the points 0, +-A, +-B and infinity. With the
// usual 1 and 2 instead of A and B, rounding errors are four times as large.

constexpr float A = 0.70710678f, B = 1.41421356f;  // the code uses A * A = 1 / 2 and B * B = 2

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

// The transforms of a doubling layer along one axis. Items 0 to 4 are F(4, 2) for the even samples,
// with the points 0, +-A, 2 and infinity; items 5 to 8 are the odd samples and share one matrix.

inline void phase_weights_1d(Vec a, Vec b, Vec c, Vec* u) {  // 3 -> 6
  const Vec odd = A * a;
  u[0] = c;
  u[1] = (c + odd) * (-(2.f + A) / 3.5f);
  u[2] = (c - odd) * (-(2.f - A) / 3.5f);
  u[3] = (c + 2.f * a) * (1.f / 7);
  u[4] = a;
  u[5] = b;
}

template <int S>
inline void phase_tile_1d(const Vec* d, Vec* v) {  // 5 -> 9
  const Vec even = d[3 * S] - 2.f * d[2 * S], odd = A * (d[2 * S] - 2.f * d[S]);
  v[0] = even + d[0] - 0.5f * d[S];
  v[S] = even + odd;
  v[2 * S] = even - odd;
  v[3 * S] = d[3 * S] - 0.5f * d[S];
  v[4 * S] = d[S] - 0.5f * d[2 * S] - 2.f * d[3 * S] + d[4 * S];
  for (int i = 1; i < 5; i++) v[(4 + i) * S] = d[i * S];
}

template <int S>
inline void phase_tile_adjoint_1d(const Vec* v, Vec* d) {  // 9 -> 5
  const Vec even = v[0] + v[S] + v[2 * S], odd = A * (v[S] - v[2 * S]);
  d[0] = v[0];
  d[S] = v[4 * S] - 0.5f * (v[0] + v[3 * S]) - 2.f * odd + v[5 * S];
  d[2 * S] = odd - 2.f * even - 0.5f * v[4 * S] + v[6 * S];
  d[3 * S] = even + v[3 * S] - 2.f * v[4 * S] + v[7 * S];
  d[4 * S] = v[4 * S] + v[8 * S];
}

template <int S>
inline void phase_output_1d(const Vec* m, Vec* z) {  // 9 -> 8
  const Vec even = m[S] + m[2 * S], odd = A * (m[S] - m[2 * S]), far = m[3 * S];
  z[0] = m[0] + even + far;
  z[2 * S] = odd + 2.f * far;
  z[4 * S] = 0.5f * even + 4.f * far;
  z[6 * S] = 0.5f * odd + 8.f * far + m[4 * S];
  for (int i = 0; i < 4; i++) z[(2 * i + 1) * S] = m[(5 + i) * S];
}

template <int S>
inline void phase_output_adjoint_1d(const Vec* z, Vec* m) {  // 8 -> 9
  const Vec even = z[0] + 0.5f * z[4 * S], odd = A * (z[2 * S] + 0.5f * z[6 * S]);
  m[0] = z[0];
  m[S] = even + odd;
  m[2 * S] = even - odd;
  m[3 * S] = z[0] + 2.f * z[2 * S] + 4.f * z[4 * S] + 8.f * z[6 * S];
  m[4 * S] = z[6 * S];
  for (int i = 0; i < 4; i++) m[(5 + i) * S] = z[(2 * i + 1) * S];
}

// The filter [1, 3, 3, 1] for one sample; its factor of 1 / 4 along each axis is part of the scale.
inline Vec smooth(Vec a, Vec b, Vec c, Vec d) { return (a + d) + 3.f * (b + c); }
constexpr float SMOOTHING = 1.f / 16;

struct Place {
  int64_t sample, row, column;  // of a tile
};

constexpr int MOST_ITEMS = 9, MOST_PRODUCTS = 81;  // of a tile, along an axis and in all

struct Layer {
  int64_t n, h, w, c_in, c_out;  // h, w: of the output
  bool up;

  int64_t h_in() const { return up ? h / 2 : h; }
  int64_t w_in() const { return up ? w / 2 : w; }
  // z of a doubling layer has one sample more than 2 h: the even one that depends on the last of x.
  int64_t tile_rows() const { return up ? h_in() / 4 + 1 : (h + 3) / 4; }
  int64_t tile_columns() const { return up ? w_in() / 4 + 1 : (w + 3) / 4; }
  int64_t tiles() const { return n * tile_rows() * tile_columns(); }
  int patch() const { return up ? 5 : 6; }  // samples of x along an axis that a tile depends on
  int items() const { return up ? 9 : 6; }  // of a tile along an axis; rows of V are pairs of them
  int products() const { return items() * items(); }
  // A tile that contains only that one even sample has only item 0.
  int items_down(Place at) const { return up && at.row * 4 == h_in() ? 1 : items(); }
  int items_across(Place at) const { return up && at.column * 4 == w_in() ? 1 : items(); }
  Place place(int64_t tile) const {
    const int64_t columns = tile_columns(), each = tile_rows() * columns;
    return {tile / each, tile % each / columns, tile % columns};
  }
};

// The rows of V and M that belong to each of the 36 matrices of U, one after the other for the
// tiles of a group.
struct Rows {
  int64_t begin[37];
  int64_t next[36];

  Rows(const Layer& layer, int64_t first, int64_t count) {
    // Numbers of tiles with all items across [0] or few [1]; `both`: those with few items down.
    int64_t down[2] = {}, both[2] = {};
    if (!layer.up)
      down[0] = count;
    else
      for (int64_t tile = first; tile < first + count; tile++) {
        const Place at = layer.place(tile);
        const bool few = layer.items_across(at) == 1;
        (layer.items_down(at) == 1 ? both : down)[few]++;
      }
    const auto times = [&](int i) { return layer.up && i == 5 ? 4 : 1; };
    begin[0] = 0;
    for (int i = 0; i < 6; i++)
      for (int j = 0; j < 6; j++) {
        int64_t rows = down[0] * times(i) * times(j);
        if (j == 0) rows += down[1] * times(i);
        if (i == 0) rows += both[0] * times(j);
        if (i == 0 && j == 0) rows += both[1];
        begin[i * 6 + j + 1] = begin[i * 6 + j] + rows;
      }
    std::copy(begin, begin + 36, next);
  }

  void skip(const Rows& others) {
    for (int xi = 0; xi < 36; xi++) next[xi] += others.begin[xi + 1] - others.begin[xi];
  }

  // The row of each pair of items of the next tile, [down][across].
  void take(int down, int across, int64_t* rows) {
    for (int i = 0; i < down; i++)
      for (int j = 0; j < across; j++)
        *rows++ = next[std::min(i, 5) * 6 + std::min(j, 5)]++;
  }
};

// A step that is a power of two would put all 36 matrices into the same few lines of the cache.
int64_t u_step(int64_t k_count) { return (k_count + 1) * PANEL; }

// U of one panel, [36][u_step(k_count)], of weights [c_out, c_in, 3, 3]. k counts the channels that
// are summed over, from `first` on: those of the input, or of the output if `adjoint`.
void transform_weights(const Layer& layer, const float* weight, bool adjoint, int64_t panel,
                       int64_t first, int64_t k_count, float* u) {
  const int64_t k_step = adjoint ? layer.c_in * 9 : 9, column_step = adjoint ? 9 : layer.c_in * 9;
  const int64_t columns = adjoint ? layer.c_in : layer.c_out;
  const int64_t width = std::min<int64_t>(PANEL, columns - panel * PANEL);
  const auto along = [&](Vec a, Vec b, Vec c, Vec* to) {
    layer.up ? phase_weights_1d(a, b, c, to) : weights_1d(a, b, c, to);
  };
  alignas(64) float taps[9][K_CHUNK][PANEL];
  if (width < PANEL) std::memset(taps, 0, sizeof(taps));
  for (int64_t start = 0; start < k_count; start += K_CHUNK) {
    const int64_t count = std::min<int64_t>(K_CHUNK, k_count - start);
    for (int64_t outer = 0; outer < (adjoint ? count : width); outer++)
      for (int64_t inner = 0; inner < (adjoint ? width : count); inner++) {
        const int64_t k = adjoint ? outer : inner, column = adjoint ? inner : outer;
        const float* kernel =
            weight + (first + start + k) * k_step + (panel * PANEL + column) * column_step;
        for (int tap = 0; tap < 9; tap++) taps[tap][k][column] = kernel[tap];
      }
    for (int64_t k = 0; k < count; k++)
      for (int half = 0; half < PANEL; half += LANES) {
        Vec g[9], t[18], line[6];
        for (int tap = 0; tap < 9; tap++) g[tap] = load(taps[tap][k] + half);
        for (int x = 0; x < 3; x++) {  // t[6][3]
          along(g[x], g[3 + x], g[6 + x], line);
          for (int y = 0; y < 6; y++) t[y * 3 + x] = line[y];
        }
        for (int y = 0; y < 6; y++) {
          along(t[y * 3], t[y * 3 + 1], t[y * 3 + 2], line);
          for (int x = 0; x < 6; x++)
            store(u + (y * 6 + x) * u_step(k_count) + (start + k) * PANEL + half, line[x]);
        }
      }
  }
}

// V[rows][step] of `count` tiles from `first` on; styles [n, c] scale the channels.
void transform_tiles(const Layer& layer, const float* x, const float* styles, int64_t first,
                     int64_t count, Rows rows, int64_t step, float* v) {
  const int64_t c = layer.c_in, h = layer.h_in(), w = layer.w_in();
  const int patch = layer.patch();
  int64_t row[MOST_PRODUCTS];
  for (int64_t tile = first; tile < first + count; tile++) {
    const Place at = layer.place(tile);
    const int down = layer.items_down(at), across = layer.items_across(at);
    rows.take(down, across, row);
    const int64_t top = at.row * 4 - 1, left = at.column * 4 - 1;
    const float* sample = x + at.sample * h * w * c;
    for (int64_t k = 0; k < c; k += LANES) {
      const int64_t lanes = std::min<int64_t>(LANES, c - k);
      const Vec s = load(styles + at.sample * c + k, lanes);
      Vec d[36], e[45], t[MOST_ITEMS];
      for (int i = 0; i < patch; i++)
        for (int j = 0; j < patch; j++) {
          const int64_t y = top + i, z = left + j;
          const bool inside = y >= 0 && y < h && z >= 0 && z < w;
          d[i * patch + j] = inside ? load(sample + (y * w + z) * c + k, lanes) * s : splat(0.f);
        }
      for (int j = 0; j < patch; j++)
        layer.up ? phase_tile_1d<5>(d + j, e + j) : tile_1d<6>(d + j, e + j);
      for (int i = 0; i < down; i++) {
        layer.up ? phase_tile_1d<1>(e + i * 5, t) : tile_1d<1>(e + i * 6, t);
        for (int j = 0; j < across; j++) store(v + row[i * across + j] * step + k, t[j], lanes);
      }
    }
  }
}

// M[ROWS or fewer][PANEL] = V[.][k] U[k][PANEL], or += if `more`.
template <int COUNT>
inline void product(const float* v, int64_t v_step, const float* u, int64_t k_count, bool more,
                    float* m) {
  Vec sums[COUNT][2] = {};
  if (more)
    for (int r = 0; r < COUNT; r++) {
      sums[r][0] = load(m + r * PANEL);
      sums[r][1] = load(m + r * PANEL + LANES);
    }
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
void product_of(int count, const float* v, int64_t v_step, const float* u, int64_t k_count,
                bool more, float* m) {
  if constexpr (COUNT == 1)
    product<1>(v, v_step, u, k_count, more, m);
  else if (count == COUNT)
    product<COUNT>(v, v_step, u, k_count, more, m);
  else
    product_of<COUNT - 1>(count, v, v_step, u, k_count, more, m);
}

// M[rows][PANEL] = V[rows][step] U[36][u_step(k)], or += if `more`.
void multiply(const Rows& rows, const float* v, int64_t step, const float* u, int64_t k_count,
              bool more, float* m) {
  for (int xi = 0; xi < 36; xi++) {
    const int64_t last = rows.begin[xi + 1];
    for (int64_t row = rows.begin[xi], count; row < last; row += count) {
      const int64_t left = last - row, parts = (left + ROWS - 1) / ROWS;
      count = (left + parts - 1) / parts;
      product_of<ROWS>(count, v + row * step, step, u + xi * u_step(k_count), k_count, more,
                       m + row * PANEL);
    }
  }
}

struct After {  // the arguments of everything after the convolution
  const float* scale;  // [n, c]
  const float* noise;  // [n or 1, h, w] or null
  int64_t noise_step;  // from sample to sample
  const float* bias;   // [c]
  float slope;         // of lrelu
  float clamp;         // none if below 0
};

// A result of the convolution with everything after it; `noise` is that of the pixel, or null.
inline Vec finished(Vec value, Vec scale, Vec bias, const float* noise, const After& after) {
  value = value * scale + bias;
  if (noise) value += splat(*noise);
  value = value > splat(0.f) ? value : value * after.slope;
  if (after.clamp >= 0) {
    const Vec high = splat(after.clamp);
    value = value > high ? high : value;
    value = value < -high ? -high : value;
  }
  return value;
}

// y of a panel's channels, of `count` tiles from `first` on, from M[rows][PANEL].
void finish_tiles(const Layer& layer, const float* m, int64_t first, int64_t count, Rows rows,
                  int64_t panel, const After& after, float* y) {
  const int64_t c = layer.c_out, h = layer.h, w = layer.w;
  int64_t line[MOST_PRODUCTS];
  for (int64_t tile = first; tile < first + count; tile++) {
    const Place at = layer.place(tile);
    rows.take(6, 6, line);
    const float* noise = after.noise ? after.noise + at.sample * after.noise_step : nullptr;
    for (int half = 0; half < PANEL; half += LANES) {
      const int64_t k = panel * PANEL + half, lanes = std::min<int64_t>(LANES, c - k);
      if (lanes <= 0) break;
      Vec in[36], t[24], out[16];
      for (int xi = 0; xi < 36; xi++) in[xi] = load(m + line[xi] * PANEL + half);
      for (int j = 0; j < 6; j++) output_1d<6>(in + j, t + j);  // t[4][6]
      for (int i = 0; i < 4; i++) output_1d<1>(t + i * 6, out + i * 4);
      const Vec scale = load(after.scale + at.sample * c + k, lanes);
      const Vec bias = load(after.bias + k, lanes);
      for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
          const int64_t row = at.row * 4 + i, column = at.column * 4 + j;
          if (row >= h || column >= w) continue;
          const float* own = noise ? noise + row * w + column : nullptr;
          const Vec value = finished(out[i * 4 + j], scale, bias, own, after);
          store(y + ((at.sample * h + row) * w + column) * c + k, value, lanes);
        }
    }
  }
}

// Rows of z for the channels of one panel: three of the tiles above, and eight of a row of tiles. A
// column of zeros precedes the first one.
struct Canvas {
  static constexpr int64_t KEPT = 3, ROWS_OF_Z = KEPT + 8;
  explicit Canvas(const Layer& layer) : width(layer.tile_columns() * 8 + 1) {}
  int64_t line() const { return width * PANEL; }
  int64_t floats() const { return ROWS_OF_Z * line(); }
  int64_t width;
};

// Rows `begin` to `end` of y, for a panel's channels; z[8 * tile_row] is row KEPT of the canvas.
void smooth_rows(const Layer& layer, const Canvas& canvas, const float* z, int64_t sample,
                 int64_t tile_row, int64_t begin, int64_t end, int64_t panel, const After& after,
                 float* y) {
  const int64_t c = layer.c_out, h = layer.h, w = layer.w, line = canvas.line();
  const float* noise = after.noise ? after.noise + sample * after.noise_step : nullptr;
  for (int64_t row = std::max<int64_t>(begin, 0); row < std::min(end, h); row++)
    for (int half = 0; half < PANEL; half += LANES) {
      const int64_t k = panel * PANEL + half, lanes = std::min<int64_t>(LANES, c - k);
      if (lanes <= 0) break;
      const Vec scale = load(after.scale + sample * c + k, lanes) * SMOOTHING;
      const Vec bias = load(after.bias + k, lanes);
      const float* above = z + (row - 1 - tile_row * 8 + Canvas::KEPT) * line + half;
      const auto down = [&](int64_t column) {
        const float* p = above + column * PANEL;
        return smooth(load(p), load(p + line), load(p + 2 * line), load(p + 3 * line));
      };
      Vec before = down(0), here = down(1), next = down(2);
      float* to = y + (sample * h + row) * w * c + k;
      for (int64_t column = 0; column < w; column++) {
        const Vec last = down(column + 3);
        const float* own = noise ? noise + row * w + column : nullptr;
        const Vec z_smooth = smooth(before, here, next, last);
        store(to + column * c, finished(z_smooth, scale, bias, own, after), lanes);
        before = here, here = next, next = last;
      }
    }
}

// z of a panel's channels, of one tile from M[rows][PANEL], into a canvas.
void draw_tile(const Layer& layer, const float* m, Place at, Rows& rows, const Canvas& canvas,
               float* z) {
  const int down = layer.items_down(at), across = layer.items_across(at);
  int64_t line[MOST_PRODUCTS];
  rows.take(down, across, line);
  float* corner = z + Canvas::KEPT * canvas.line() + (at.column * 8 + 1) * PANEL;
  for (int half = 0; half < PANEL; half += LANES) {
    Vec in[MOST_PRODUCTS] = {}, t[72], out[8];
    for (int i = 0; i < down; i++)
      for (int j = 0; j < across; j++)
        in[i * 9 + j] = load(m + line[i * across + j] * PANEL + half);
    for (int j = 0; j < 9; j++) phase_output_1d<9>(in + j, t + j);  // t[8][9]
    for (int i = 0; i < 8; i++) {
      phase_output_1d<1>(t + i * 9, out);
      for (int j = 0; j < 8; j++) store(corner + i * canvas.line() + j * PANEL + half, out[j]);
    }
  }
}

// The adjoint of `finish_tiles` without everything after the convolution: M[rows][step] from the
// gradients of the convolution's result times scale.
void spread_tiles(const Layer& layer, const float* gradient, const float* scale, int64_t first,
                  int64_t count, Rows rows, int64_t step, float* m) {
  const int64_t c = layer.c_out, h = layer.h, w = layer.w;
  int64_t line[MOST_PRODUCTS];
  for (int64_t tile = first; tile < first + count; tile++) {
    const Place at = layer.place(tile);
    const int down = layer.items_down(at), across = layer.items_across(at);
    rows.take(down, across, line);
    for (int64_t k = 0; k < c; k += LANES) {
      const int64_t lanes = std::min<int64_t>(LANES, c - k);
      const Vec s = load(scale + at.sample * c + k, lanes) * (layer.up ? SMOOTHING : 1.f);
      const auto from = [&](int64_t row, int64_t column) {
        const bool inside = row >= 0 && row < h && column >= 0 && column < w;
        const float* p = gradient + ((at.sample * h + row) * w + column) * c + k;
        return inside ? load(p, lanes) * s : splat(0.f);
      };
      Vec d[64], t[72], out[MOST_ITEMS];
      if (layer.up) {
        Vec column[11], wide[88];  // wide[8][11]: z affects y from two before it to one after it
        for (int j = 0; j < 11; j++) {
          for (int i = 0; i < 11; i++) column[i] = from(at.row * 8 - 2 + i, at.column * 8 - 2 + j);
          for (int i = 0; i < 8; i++)
            wide[i * 11 + j] = smooth(column[i], column[i + 1], column[i + 2], column[i + 3]);
        }
        for (int i = 0; i < 8; i++)
          for (int j = 0; j < 8; j++) {
            const Vec* p = wide + i * 11 + j;
            d[i * 8 + j] = smooth(p[0], p[1], p[2], p[3]);
          }
        for (int j = 0; j < 8; j++) phase_output_adjoint_1d<8>(d + j, t + j);  // t[9][8]
      } else {
        for (int i = 0; i < 4; i++)
          for (int j = 0; j < 4; j++) d[i * 4 + j] = from(at.row * 4 + i, at.column * 4 + j);
        for (int j = 0; j < 4; j++) output_adjoint_1d<4>(d + j, t + j);  // t[6][4]
      }
      for (int i = 0; i < down; i++) {
        layer.up ? phase_output_adjoint_1d<1>(t + i * 8, out) : output_adjoint_1d<1>(t + i * 4, out);
        for (int j = 0; j < across; j++) store(m + line[i * across + j] * step + k, out[j], lanes);
      }
    }
  }
}

struct Gradients {  // of x, and of the styles for each row of tiles; both start at 0
  float* x;         // [n, h, w, c_in]
  float* styles;    // [n * tile rows, c_in]
};

// The adjoint of `transform_tiles`, for the channels of a panel: adds the gradients of tiles,
// V[rows][PANEL]. Tiles overlap, so neighbors must not be added at the same time.
void gather_tiles(const Layer& layer, const float* v, int64_t first, int64_t count, Rows rows,
                  int64_t panel, const float* x, const float* styles, const Gradients& gradients) {
  const int64_t c = layer.c_in, h = layer.h_in(), w = layer.w_in();
  const int patch = layer.patch();
  int64_t line[MOST_PRODUCTS];
  for (int64_t tile = first; tile < first + count; tile++) {
    const Place at = layer.place(tile);
    const int down = layer.items_down(at), across = layer.items_across(at), items = layer.items();
    rows.take(down, across, line);
    const int64_t top = at.row * 4 - 1, left = at.column * 4 - 1;
    float* style_gradients =
        gradients.styles + (at.sample * layer.tile_rows() + at.row) * c;
    for (int half = 0; half < PANEL; half += LANES) {
      const int64_t k = panel * PANEL + half, lanes = std::min<int64_t>(LANES, c - k);
      if (lanes <= 0) break;
      const Vec s = load(styles + at.sample * c + k, lanes);
      Vec in[MOST_PRODUCTS] = {}, t[45], d[36];
      for (int i = 0; i < down; i++)
        for (int j = 0; j < across; j++)
          in[i * items + j] = load(v + line[i * across + j] * PANEL + half);
      for (int j = 0; j < items; j++)
        layer.up ? phase_tile_adjoint_1d<9>(in + j, t + j) : tile_adjoint_1d<6>(in + j, t + j);
      for (int i = 0; i < patch; i++)
        layer.up ? phase_tile_adjoint_1d<1>(t + i * 9, d + i * 5)
                 : tile_adjoint_1d<1>(t + i * 6, d + i * 6);
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

// With v as the convolution's result times scale: the gradient of v, [n, h, w, c], and for each
// sample and row the sum of this gradient times v over the row, [n * h, c].
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

// The path of a pass, forward or backward, and the sizes of its memory.
struct Plan {
  Plan(const Layer& layer, bool adjoint)
      : adjoint(adjoint),
        k_count(adjoint ? layer.c_out : layer.c_in),
        panels(up_to(adjoint ? layer.c_in : layer.c_out, PANEL) / PANEL),
        step(up_to(k_count, LANES) + LANES),  // never a power of two, which would crowd cache lines
        threads(at::get_num_threads()) {
    few_channels = panels * u_floats(k_count) * int64_t(sizeof(float)) <= cached_bytes;
    const int64_t each = layer.products() * sizeof(float) * (few_channels ? step + PANEL : step);
    const int64_t fit = (few_channels ? cache_2 : block_bytes) / each / ROWS * ROWS;
    tiles = std::min(layer.tiles(), std::max<int64_t>(fit, 2 * ROWS));
    rows = tiles < layer.tiles() ? tiles * layer.products() : Rows(layer, 0, tiles).begin[36];
    // A thread's own part of U is valid for one block, and does not help if threads share a panel.
    whole_u = few_channels || tiles < layer.tiles() || panels < threads;
    // That part can stay in the second cache if M leaves room for enough of its channels.
    const int64_t room = cache_2 - m_floats() * int64_t(sizeof(float));
    const int64_t channels = room / (36 * PANEL * int64_t(sizeof(float))) / K_CHUNK * K_CHUNK;
    chunk = whole_u || channels < 4 * K_CHUNK ? k_count : std::min(channels, k_count);
  }
  static int64_t u_floats(int64_t channels) { return 36 * u_step(channels); }  // of a panel
  int64_t v_floats() const { return rows * step; }
  int64_t m_floats() const { return rows * PANEL; }
  int64_t floats() const {
    const int64_t of_thread = m_floats() + (few_channels ? v_floats() : 0);
    return (few_channels ? 0 : v_floats()) + (whole_u ? panels : threads) * u_floats(chunk) +
           threads * of_thread;
  }
  bool adjoint;
  int64_t k_count;  // channels that are summed over
  int64_t panels, step, threads;
  int64_t tiles, rows;  // of a group
  int64_t chunk;        // channels of U that are in memory at a time
  bool few_channels, whole_u;
};

// Rows of tiles, from `begin` to `end`, that one thread processes in order.
struct Band {
  int64_t index, begin, end;
};

int64_t bands_of(const Layer& layer, const Plan& plan) {
  return plan.few_channels ? std::min(plan.threads, layer.n * layer.tile_rows()) : 1;
}

Band band_of(const Layer& layer, int64_t bands, int64_t index) {
  const int64_t rows = layer.n * layer.tile_rows();
  return {index, rows * index / bands, rows * (index + 1) / bands};
}

// Both passes: `make_v(first, count, rows, step, v)` fills V for tiles, and
// `use_m(band, panel, first, count, rows, m)` takes M. For each panel, the tiles of a band are used
// in order. In the backward pass, where tiles overlap, neighbors are not used at the same time.
template <class MakeV, class UseM>
void run(const Layer& layer, const Plan& plan, const float* weight, const MakeV& make_v,
         const UseM& use_m) {
  Workspace workspace(plan.floats());
  const int64_t u_floats = Plan::u_floats(plan.chunk);
  float* u = workspace.take((plan.whole_u ? plan.panels : plan.threads) * u_floats);
  float* m = workspace.take(plan.threads * plan.m_floats());
  float* v = workspace.take((plan.few_channels ? plan.threads : 1) * plan.v_floats());
  const int64_t tiles = layer.tiles(), columns = layer.tile_columns();
  if (plan.whole_u)
    at::parallel_for(0, plan.panels, 1, [&](int64_t begin, int64_t end) {
      for (int64_t panel = begin; panel < end; panel++)
        transform_weights(layer, weight, plan.adjoint, panel, 0, plan.k_count, u + panel * u_floats);
    });

  if (plan.few_channels) {
    const auto take = [&](const Band& band) {  // takes the tiles through all steps
      float* own_v = v + at::get_thread_num() * plan.v_floats();
      float* own_m = m + at::get_thread_num() * plan.m_floats();
      const int64_t last = band.end * columns;
      for (int64_t first = band.begin * columns; first < last; first += plan.tiles) {
        const int64_t count = std::min(plan.tiles, last - first);
        const Rows rows(layer, first, count);
        make_v(first, count, rows, plan.step, own_v);
        for (int64_t panel = 0; panel < plan.panels; panel++) {
          multiply(rows, own_v, plan.step, u + panel * u_floats, plan.k_count, false, own_m);
          use_m(band, panel, first, count, rows, own_m);
        }
      }
    };
    if (!plan.adjoint) {
      const int64_t bands = bands_of(layer, plan);
      at::parallel_for(0, bands, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) take(band_of(layer, bands, i));
      });
      return;
    }
    // A band overlaps only with the next one, so every second band is processed first.
    const int64_t all = layer.n * layer.tile_rows(), each = up_to(plan.tiles, columns) / columns;
    const int64_t bands = up_to(all, each) / each;
    for (int64_t parity = 0; parity < 2; parity++)
      at::parallel_for(0, (bands + 1 - parity) / 2, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
          const int64_t index = 2 * i + parity;
          take({index, index * each, std::min((index + 1) * each, all)});
        }
      });
    return;
  }

  const Band all = band_of(layer, 1, 0);
  for (int64_t first = 0; first < tiles; first += plan.tiles) {
    const int64_t count = std::min(plan.tiles, tiles - first);
    const Rows rows(layer, first, count);
    at::parallel_for(0, count, 4, [&](int64_t begin, int64_t end) {
      Rows own = rows;
      own.skip(Rows(layer, first, begin));
      make_v(first + begin, end - begin, own, plan.step, v);
    });
    // All tiles of a panel belong to one thread, so no tile overlaps with one of another thread.
    at::parallel_for(0, plan.panels, 1, [&](int64_t begin, int64_t end) {
      float* own_m = m + at::get_thread_num() * plan.m_floats();
      for (int64_t panel = begin; panel < end; panel++) {
        float* own_u = u + (plan.whole_u ? panel : at::get_thread_num()) * u_floats;
        for (int64_t k = 0; k < plan.k_count; k += plan.chunk) {
          const int64_t channels = std::min(plan.chunk, plan.k_count - k);
          if (!plan.whole_u)
            transform_weights(layer, weight, plan.adjoint, panel, k, channels, own_u);
          multiply(rows, v + k, plan.step, own_u, channels, k > 0, own_m);
        }
        use_m(all, panel, first, count, rows, own_m);
      }
    });
  }
}

// y of a doubling layer: z, one row of tiles after the other, followed by the filter.
template <class MakeV>
void run_up(const Layer& layer, const Plan& plan, const float* weight, const After& after,
            const MakeV& make_v, float* y) {
  const Canvas canvas(layer);
  const int64_t bands = bands_of(layer, plan), kept = Canvas::KEPT * canvas.line();
  // For each band and panel: a canvas, and the first rows of z if the band begins inside a picture.
  std::unique_ptr<float[]> drawn(new float[bands * plan.panels * canvas.floats()]());
  std::unique_ptr<float[]> heads(new float[bands * plan.panels * kept]);
  const auto canvas_of = [&](int64_t band, int64_t panel) {
    return drawn.get() + (band * plan.panels + panel) * canvas.floats();
  };
  const auto head_of = [&](int64_t band, int64_t panel) {
    return heads.get() + (band * plan.panels + panel) * kept;
  };
  const auto use_m = [&](const Band& band, int64_t panel, int64_t first, int64_t count, Rows rows,
                         const float* m) {
    float* z = canvas_of(band.index, panel);
    for (int64_t tile = first; tile < first + count; tile++) {
      const Place at = layer.place(tile);
      draw_tile(layer, m, at, rows, canvas, z);
      if (at.column + 1 < layer.tile_columns()) continue;
      int64_t begin = at.row * 8 - 2;
      if (at.row == 0) {
        std::memset(z, 0, kept * sizeof(float));
      } else if (tile / layer.tile_columns() == band.begin) {  // another band has the rows above
        std::memcpy(head_of(band.index, panel), z + kept, kept * sizeof(float));
        begin += 3;
      }
      smooth_rows(layer, canvas, z, at.sample, at.row, begin, at.row * 8 + 6, panel, after, y);
      std::memcpy(z, z + 8 * canvas.line(), kept * sizeof(float));
    }
  };
  run(layer, plan, weight, make_v, use_m);
  // The rows between two bands of a picture.
  at::parallel_for(0, (bands - 1) * plan.panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t above = i / plan.panels, panel = i % plan.panels;
      const int64_t line = band_of(layer, bands, above + 1).begin;
      const int64_t sample = line / layer.tile_rows(), row = line % layer.tile_rows();
      if (row == 0) continue;
      float* z = canvas_of(above, panel);
      std::memcpy(z + kept, head_of(above + 1, panel), kept * sizeof(float));
      smooth_rows(layer, canvas, z, sample, row, row * 8 - 2, row * 8 + 1, panel, after, y);
    }
  });
}

}  // namespace

extern "C" {

// Sets the bytes of the second and the third cache, which limit how much is computed at once.
void styled_conv_caches(int64_t second, int64_t third) {
  cache_2 = second / 4 * 3;
  cached_bytes = third / 16 * 5;
  block_bytes = third / 8 * 5;
}

// Returns 0, or 1 if there is not enough memory.
int styled_conv(const float* x, const float* weight, const float* styles, const float* scale,
                const float* noise, int64_t noise_step, const float* bias, float slope, float clamp,
                int64_t n, int64_t h, int64_t w, int64_t c_in, int64_t c_out, int up,
                float* y) try {
  const Layer layer{n, h, w, c_in, c_out, up != 0};
  in_large_pages(y, n * h * w * c_out);
  const Plan plan(layer, false);
  const After after{scale, noise, noise_step, bias, slope, clamp};
  const auto make_v = [&](int64_t first, int64_t count, const Rows& rows, int64_t step, float* v) {
    transform_tiles(layer, x, styles, first, count, rows, step, v);
  };
  const auto use_m = [&](const Band&, int64_t panel, int64_t first, int64_t count, const Rows& rows,
                         const float* m) {
    finish_tiles(layer, m, first, count, rows, panel, after, y);
  };
  if (layer.up)
    run_up(layer, plan, weight, after, make_v, y);
  else
    run(layer, plan, weight, make_v, use_m);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

// The number of rows of tiles for a result of height h.
int64_t styled_conv_tile_rows(int64_t h, int up) {
  return Layer{1, h, 0, 0, 0, up != 0}.tile_rows();
}

// Gradients of x, of styles for each row of tiles [n * tile rows, c_in] (zeros before the call),
// and scale times that of scale for each row of pixels [n * h, c_out]. `gradient` [n, h, w, c_out] is
// working memory.
int styled_conv_backward(const float* x, const float* weight, const float* styles,
                         const float* scale, const float* noise, int64_t noise_step,
                         const float* bias, float slope, float clamp, int64_t n, int64_t h,
                         int64_t w, int64_t c_in, int64_t c_out, int up, const float* y,
                         const float* y_gradient, float* gradient, float* x_gradient,
                         float* style_gradients, float* scale_gradients) try {
  const Layer layer{n, h, w, c_in, c_out, up != 0};
  const int64_t line = layer.w_in() * c_in, lines = n * layer.h_in();
  in_large_pages(gradient, n * h * w * c_out);
  in_large_pages(x_gradient, lines * line);
  at::parallel_for(0, lines, 1, [&](int64_t begin, int64_t end) {
    std::memset(x_gradient + begin * line, 0, (end - begin) * line * sizeof(float));
  });
  const Plan plan(layer, true);
  const After after{scale, noise, noise_step, bias, slope, clamp};
  before_activation(layer, y, y_gradient, after, gradient, scale_gradients);
  const Gradients gradients{x_gradient, style_gradients};
  const auto make_m = [&](int64_t first, int64_t count, const Rows& rows, int64_t step, float* m) {
    spread_tiles(layer, gradient, scale, first, count, rows, step, m);
  };
  const auto use_v = [&](const Band&, int64_t panel, int64_t first, int64_t count, const Rows& rows,
                         const float* v) {
    gather_tiles(layer, v, first, count, rows, panel, x, styles, gradients);
  };
  run(layer, plan, weight, make_m, use_v);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

}  // extern "C"
