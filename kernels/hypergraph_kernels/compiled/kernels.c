// The optional compiled CPU path: plain C11, no headers but the compiler's own.
//
// Every function that may touch memory through an index checks the index first and returns
// non-zero if it is out of range. All sizes and indices are int64.

#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && !defined(HGK_PORTABLE)
#define HGK_X86 1
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2")))
// Left to itself, the compiler copies and reloads registers: this value is in one, and this sum
// grows in place.
#define PIN(value) __asm__("" : "+x"(value))
#define ADD(sum, value) __asm__("vpaddd %1, %0, %0" : "+x"(sum) : "x"(value))
#else
#define HGK_X86 0
#endif

#define INLINE static inline __attribute__((always_inline))

#ifndef HGK_DIGEST
#define HGK_DIGEST "unknown"
#endif

// Digest of the source that this library was built from.
const char *hgk_digest(void) { return HGK_DIGEST; }

#if HGK_X86
static int has_avx2(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") != 0;
}
#endif

// The instruction set that the functions below use here.
const char *hgk_instructions(void) {
#if HGK_X86
  if (has_avx2()) return "avx2";
#endif
  return "portable";
}

// Stable counting sort of pairs by row: offsets [num_rows + 1], and for every sorted position the
// pair's column and its place in the caller's list.
int hgk_sort_pairs(const int64_t *rows, const int64_t *columns, int64_t nnz, int64_t num_rows,
                   int64_t *sorted_columns, int64_t *offsets, int64_t *order) {
  memset(offsets, 0, (size_t)(num_rows + 1) * sizeof(int64_t));
  for (int64_t p = 0; p < nnz; p++) {
    if (rows[p] < 0 || rows[p] >= num_rows) return 1;
    offsets[rows[p]]++;
  }
  // offsets[r] becomes the first position of row r, and then, while filling, of row r + 1.
  int64_t first = 0;
  for (int64_t r = 0; r <= num_rows; r++) {
    int64_t count = offsets[r];
    offsets[r] = first;
    first += count;
  }
  for (int64_t p = 0; p < nnz; p++) {
    int64_t place = offsets[rows[p]]++;
    order[place] = p;
    sorted_columns[place] = columns[p];
  }
  memmove(offsets + 1, offsets, (size_t)num_rows * sizeof(int64_t));
  offsets[0] = 0;
  return 0;
}

// ---------------------------------------------------------------------------------------------
// Nearest rows by cosine.
//
// Rows are brought to length one (or stay zero) and rounded to 16-bit integers, of which inner products
// are exact and cheap; a pair's product tells its cosine to within a bound that holds for every
// pair. Only pairs whose product is within that bound of a row's k best are looked at again, in
// float32, so the answer is the answer of float32 distances, whatever was skipped and in whatever
// order: results do not depend on the number of threads. A product serves both of its rows, so
// every pair of blocks is multiplied once.

enum { PANEL = 16, MICRO = 4 };  // rows per packed panel; rows of a register tile (MICRO x PANEL)

typedef struct {
  int64_t n, channels;
  int64_t k;         // neighbours wanted, the row itself not counted
  int64_t capacity;  // candidates a row can hold, a multiple of 8 and at least k + 2 PANEL
  int64_t block;     // rows per block, a multiple of PANEL
  float limit;       // distances beyond it need not be found
  int32_t margin;    // set by hgk_knn_prepare: products that may belong to equal distances
  double unit;       // likewise: the product of a row with itself
  const float *x;       // [n, channels], of any lengths
  float *points;        // [n, channels]: the same rows of length one, or zero
  int32_t *packed;      // [n padded to PANEL, channels padded to 16 / 2]: pairs of int16
  int32_t *bar;         // [n padded]: products at or below it are not candidates
  int32_t *count;       // [n padded]: candidates held
  int32_t *score;       // [n padded, capacity]: their products
  int32_t *index;       // [n padded, capacity]: their rows
  uint64_t *order;        // [256]: the places of the set bits of a byte, one in each byte
  _Atomic int32_t *lock;  // [1 + blocks]: the next pair of blocks, then one lock for each block
} hgk_knn;

INLINE int64_t pairs_of(const hgk_knn *s) { return (s->channels + 15) / 16 * 8; }
INLINE int64_t padded(const hgk_knn *s) { return (s->n + PANEL - 1) / PANEL * PANEL; }
INLINE int64_t blocks_of(const hgk_knn *s) { return (s->n + s->block - 1) / s->block; }

typedef float largest_function(const float *, int64_t);
typedef float square_function(const float *, int64_t);

static float largest_portable(const float *a, int64_t channels) {
  float largest = 0.0f;
  for (int64_t c = 0; c < channels; c++) largest = fmaxf(largest, fabsf(a[c]));
  return largest;
}

// The sum of squares; like the sum below, in one order everywhere.
static float square_portable(const float *a, int64_t channels) {
  float lane[32] = {0};
  for (int64_t c = 0; c < channels; c++) lane[c % 32] += a[c] * a[c];
  for (int step = 16; step > 0; step /= 2)
    for (int l = 0; l < step; l++) lane[l] += lane[l + step];
  return lane[0];
}

// Half the squared distance, in the same order of additions for every pair and instruction set:
// entry c goes to sum c mod 32, and those are added in halves. `next` is the row wanted next.
static float half_distance_portable(const float *a, const float *b, const float *next,
                                    int64_t channels) {
  (void)next;
  float lane[32] = {0};
  for (int64_t c = 0; c < channels; c++) {
    float d = a[c] - b[c];
    lane[c % 32] += d * d;
  }
  for (int step = 16; step > 0; step /= 2)
    for (int l = 0; l < step; l++) lane[l] += lane[l + step];
  return 0.5f * lane[0];
}

INLINE int is_zero(const float *a, int64_t channels) {
  for (int64_t c = 0; c < channels; c++)
    if (a[c] != 0.0f) return 0;
  return 1;
}

// (distance, index) as one number: distances are not negative, so their bits are in their order.
INLINE int64_t key_of(float distance, int64_t index) {
  int32_t bits;
  memcpy(&bits, &distance, sizeof bits);
  return ((int64_t)bits << 32) | index;
}

typedef float distance_function(const float *, const float *, const float *, int64_t);

// Distances of a row's candidates; a zero row is at distance 1 from all others.
INLINE void rescore(const hgk_knn *s, int64_t row, int64_t *keys, distance_function *half_distance) {
  const float *a = s->points + row * s->channels;
  const int32_t *index = s->index + row * s->capacity;
  for (int64_t c = 0; c < s->count[row]; c++) {
    const float *b = s->points + index[c] * s->channels;
    const float *next = c + 1 < s->count[row] ? s->points + index[c + 1] * s->channels : a;
    float distance = is_zero(b, s->channels) ? 1.0f : half_distance(a, b, next, s->channels);
    keys[c] = key_of(distance, index[c]);
  }
}

// Drop candidates at or below a bar; returns how many are left.
INLINE int64_t compact_portable(const hgk_knn *s, int32_t *score, int32_t *index, int64_t held,
                                int32_t bar) {
  (void)s;
  int64_t kept = 0;
  for (int64_t c = 0; c < held; c++) {
    int32_t value = score[c], place = index[c];
    score[kept] = value;
    index[kept] = place;
    kept += value > bar;
  }
  return kept;
}

typedef int64_t compact_function(const hgk_knn *, int32_t *, int32_t *, int64_t, int32_t);
typedef void shrink_function(const hgk_knn *, int64_t);

// Keep the candidates of a row that can still be among its k nearest, and raise its bar to where
// k to k + spare of them are above it.
INLINE void shrink_row(const hgk_knn *s, int64_t row, int64_t spare, compact_function *compact,
                       distance_function *half_distance) {
  int32_t *score = s->score + row * s->capacity, *index = s->index + row * s->capacity;
  int64_t held = s->count[row];
  if (held <= s->k) return;
  int32_t lowest = INT32_MAX, highest = INT32_MIN;
  for (int64_t c = 0; c < held; c++) {
    lowest = score[c] < lowest ? score[c] : lowest;
    highest = score[c] > highest ? score[c] : highest;
  }
  // At least k products are >= low, fewer than k are >= high.
  int64_t low = lowest, high = (int64_t)highest + 1;
  while (high - low > 1) {
    int64_t middle = low + (high - low) / 2;
    int32_t at_least = (int32_t)middle, above = 0;
    for (int64_t c = 0; c < held; c++) above += score[c] >= at_least;
    if (above >= s->k) {
      low = middle;
      if (above <= s->k + spare) break;
    } else {
      high = middle;
    }
  }
  int64_t bar = low - 1 - s->margin;
  if (bar > s->bar[row]) s->bar[row] = (int32_t)bar;
  int64_t kept = compact(s, score, index, held, s->bar[row]);
  s->count[row] = (int32_t)kept;
  if (2 * kept <= s->capacity + s->k) return;
  // Many candidates within rounding of each other: their distances decide.
  int64_t keys[kept];
  rescore(s, row, keys, half_distance);
  kept = 0;
  for (int64_t c = 0; c < s->count[row]; c++) {
    int64_t nearer = 0;
    for (int64_t d = 0; d < s->count[row]; d++) nearer += keys[d] < keys[c];
    if (nearer < s->k) {
      score[kept] = score[c];
      index[kept] = index[c];
      kept++;
    }
  }
  s->count[row] = (int32_t)kept;
}

// Enter the candidates that one register tile holds for its rows and for its columns.
INLINE void collect(const hgk_knn *s, const int32_t *tile, int64_t row0, int64_t column0,
                    shrink_function *shrink) {
  for (int i = 0; i < MICRO && row0 + i < s->n; i++)
    for (int j = 0; j < PANEL && column0 + j < s->n; j++) {
      int64_t row = row0 + i, column = column0 + j;
      if (column <= row) continue;  // what is right of the diagonal stands for both sides of it
      for (int side = 0; side < 2; side++) {
        int64_t owner = side ? column : row;
        if (tile[PANEL * i + j] <= s->bar[owner]) continue;
        int64_t place = owner * s->capacity + s->count[owner]++;
        s->score[place] = tile[PANEL * i + j];
        s->index[place] = (int32_t)(side ? row : column);
        if (s->count[owner] > s->capacity - PANEL) shrink(s, owner);
      }
    }
}

// Multiply a block of rows with a block of columns; both may be the same block.
INLINE void multiply_blocks(const hgk_knn *s, int64_t row_block, int64_t column_block,
                            void (*micro)(const hgk_knn *, int64_t, int64_t)) {
  int64_t total = padded(s);
  int64_t row_end = (row_block + 1) * s->block, column_end = (column_block + 1) * s->block;
  row_end = row_end < total ? row_end : total;
  column_end = column_end < total ? column_end : total;
  for (int64_t column = column_block * s->block; column < column_end; column += PANEL) {
    int64_t last = row_block == column_block ? column + PANEL : row_end;
    for (int64_t row = row_block * s->block; row < last; row += MICRO) micro(s, row, column);
  }
}

INLINE void lock_block(const hgk_knn *s, int64_t block) {
  int32_t open = 0;
  while (!atomic_compare_exchange_weak(&s->lock[1 + block], &open, 1)) {
    open = 0;
    sched_yield();
  }
}

// Take pairs of blocks until none is left. Diagonal blocks come first, then pairs at a growing
// distance: bars of all rows rise together, and threads seldom want the same block.
INLINE void all_pairs(const hgk_knn *s, void (*micro)(const hgk_knn *, int64_t, int64_t)) {
  int64_t blocks = blocks_of(s), pairs = blocks * (blocks + 1) / 2;
  int64_t apart = 0, first_pair = 0;
  for (;;) {
    int64_t pair = atomic_fetch_add(&s->lock[0], 1);
    if (pair >= pairs) return;
    while (pair >= first_pair + blocks - apart) first_pair += blocks - apart++;
    int64_t row_block = pair - first_pair, column_block = row_block + apart;
    lock_block(s, row_block);
    if (apart) lock_block(s, column_block);
    multiply_blocks(s, row_block, column_block, micro);
    atomic_store(&s->lock[1 + row_block], 0);
    if (apart) atomic_store(&s->lock[1 + column_block], 0);
  }
}

// Bring a row to length one, whatever its magnitude; returns its largest entry, 0 for a zero row.
// Powers of two, by which nothing is rounded, keep squares from overflowing or vanishing.
INLINE float normalize(const float *x, float *out, int64_t channels, largest_function *largest_of,
                       square_function *square_of) {
  float largest = largest_of(x, channels);
  int exponent;
  frexpf(largest, &exponent);
  float half = ldexpf(1.0f, -(exponent / 2)), rest = ldexpf(1.0f, -(exponent - exponent / 2));
  for (int64_t c = 0; c < channels; c++) out[c] = x[c] * half * rest;
  if (largest == 0.0f) return 0.0f;
  float length = sqrtf(square_of(out, channels));
  for (int64_t c = 0; c < channels; c++) out[c] /= length;
  return largest * half * rest / length;
}

// Round a row times a factor to the nearest integers, pairs of which go to out[0], out[PANEL], ..;
// returns the squared length of what rounding took away.
static double round_portable(const float *a, int64_t channels, float factor, int32_t *out) {
  double lost = 0.0;
  for (int64_t c = 0; c < channels; c += 2) {
    uint32_t both = 0;
    for (int h = 0; h < 2 && c + h < channels; h++) {
      float value = a[c + h] * factor, whole = rintf(value);
      lost += ((double)value - whole) * ((double)value - whole);
      both |= (uint32_t)(uint16_t)(int16_t)whole << 16 * h;
    }
    out[c / 2 * PANEL] = (int32_t)both;
  }
  return lost;
}

typedef double round_function(const float *, int64_t, float, int32_t *);

// Round rows to integers and pack them; the margin follows from what rounding has lost.
INLINE void prepare(hgk_knn *s, largest_function *largest_of, square_function *square_of,
                    round_function *round_row) {
  int64_t n = s->n, channels = s->channels, pairs = pairs_of(s);
  float largest = 0.0f;
  for (int64_t r = 0; r < padded(s); r++) {
    float entry = 0.0f;
    if (r < n) {
      const float *x = s->x + r * channels;
      entry = normalize(x, s->points + r * channels, channels, largest_of, square_of);
    }
    // A row that collects nothing: padding, or zero, at distance 1 from all others.
    s->bar[r] = entry == 0.0f ? INT32_MAX : INT32_MIN;
    s->count[r] = 0;
    largest = fmaxf(largest, entry);
  }
  for (uint32_t byte = 0; byte < 256; byte++) {
    s->order[byte] = 0;
    int found = 0;
    for (uint64_t bit = 0; bit < 8; bit++)
      if (byte >> bit & 1) s->order[byte] |= bit << 8 * found++;
  }
  // Products must fit 32 bits (lengths at most 46340) and entries 16 bits.
  double scale = 46300.0 - 0.5 * sqrt((double)channels);
  if (largest * scale > 32766.0) scale = 32766.0 / largest;
  float factor = (float)scale;
  double worst = 0.0;
  if (n % PANEL || channels % 16) memset(s->packed, 0, (size_t)(padded(s) * pairs) * sizeof(int32_t));
  for (int64_t r = 0; r < n; r++) {
    int32_t *out = s->packed + r / PANEL * PANEL * pairs + r % PANEL;
    worst = fmax(worst, round_row(s->points + r * channels, channels, factor, out));
  }
  // |<a, b> - <A, B> / factor^2| <= bound / factor^2 with a = (A + lost) / factor. Distances in
  // float32 lie within `slack` of 1 - <a, b>: sums round, and so lengths are not quite one.
  double off_length = (channels / 32.0 + 16.0) / (1 << 23);
  double lost = sqrt(worst * 1.001), length = factor * (1.0 + off_length);
  double bound = lost * (2.0 * length + lost), slack = 4.0 * off_length;
  s->unit = (double)factor * factor;
  s->margin = (int32_t)fmin(ceil(2.0 * (bound + slack * s->unit)), 2e9);
  if (s->limit < 4.0f) {
    double bar = floor(s->unit * (1.0 - (double)s->limit) - 0.5 * s->margin) - 1.0;
    int32_t lowest = bar <= INT32_MIN ? INT32_MIN : bar >= INT32_MAX ? INT32_MAX : (int32_t)bar;
    for (int64_t r = 0; r < n; r++)
      if (s->bar[r] < lowest) s->bar[r] = lowest;
  }
}

// The k nearest of some rows, in order; where fewer lie within the limit, the row itself, infinitely
// far.
INLINE void finish_rows(const hgk_knn *s, int64_t begin, int64_t end, int64_t *nearest,
                        float *distance, int64_t *keys, compact_function *compact,
                        distance_function *half_distance) {
  int64_t k = s->k, width = k + 1;
  for (int64_t r = begin; r < end; r++) {
    int64_t *near = nearest + r * width;
    float *far = distance + r * width;
    near[0] = r;
    far[0] = 0.0f;
    int64_t found = 0;
    if (is_zero(s->points + r * s->channels, s->channels)) {
      for (int64_t j = 0; found < k && s->limit >= 1.0f; j++)
        if (j != r) {
          near[++found] = j;
          far[found] = 1.0f;
        }
    } else {
      shrink_row(s, r, 0, compact, half_distance);
      int64_t count = s->count[r];
      rescore(s, r, keys, half_distance);
      for (int64_t c = 0; c < count; c++) {
        int64_t nearer = 1;
        for (int64_t d = 0; d < count; d++) nearer += keys[d] < keys[c];
        if (nearer > k) continue;
        int32_t bits = (int32_t)(keys[c] >> 32);
        memcpy(&far[nearer], &bits, sizeof bits);
        near[nearer] = keys[c] & INT32_MAX;
      }
      found = count < k ? count : k;
    }
    while (found++ < k) {
      near[found] = r;
      far[found] = INFINITY;
    }
  }
}

#if HGK_X86
AVX2 static float sum_of(__m256 value) {
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
  __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

AVX2 static float sum_of_32(const __m256 *sum) {
  return sum_of(_mm256_add_ps(_mm256_add_ps(sum[0], sum[2]), _mm256_add_ps(sum[1], sum[3])));
}

AVX2 static float largest_avx2(const float *a, int64_t channels) {
  __m256 sign = _mm256_set1_ps(-0.0f), top = _mm256_setzero_ps();
  int64_t c = 0;
  for (; c + 8 <= channels; c += 8)
    top = _mm256_max_ps(_mm256_andnot_ps(sign, _mm256_loadu_ps(a + c)), top);
  float lane[8], largest = largest_portable(a + c, channels - c);
  _mm256_storeu_ps(lane, top);
  for (int l = 0; l < 8; l++) largest = lane[l] > largest ? lane[l] : largest;
  return largest;
}

AVX2 static inline void add_squares(const float *a, __m256 *sum) {
#pragma GCC unroll 4
  for (int v = 0; v < 4; v++) {
    __m256 value = _mm256_loadu_ps(a + 8 * v);
    sum[v] = _mm256_add_ps(sum[v], _mm256_mul_ps(value, value));
  }
}

AVX2 static float square_avx2(const float *a, int64_t channels) {
  __m256 sum[4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; v++) sum[v] = _mm256_setzero_ps();
  int64_t c = 0;
  for (; c + 32 <= channels; c += 32) add_squares(a + c, sum);
  if (c < channels) {
    float rest[32] = {0};
    memcpy(rest, a + c, (size_t)(channels - c) * sizeof(float));
    add_squares(rest, sum);
  }
  return sum_of_32(sum);
}

AVX2 static inline void add_square_differences(const float *a, const float *b, __m256 *sum) {
#pragma GCC unroll 4
  for (int v = 0; v < 4; v++) {
    __m256 d = _mm256_sub_ps(_mm256_loadu_ps(a + 8 * v), _mm256_loadu_ps(b + 8 * v));
    sum[v] = _mm256_add_ps(sum[v], _mm256_mul_ps(d, d));
  }
}

AVX2 static float half_distance_avx2(const float *a, const float *b, const float *next,
                                     int64_t channels) {
  __m256 sum[4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; v++) sum[v] = _mm256_setzero_ps();
  int64_t c = 0;
  for (; c + 32 <= channels; c += 32) {
    __builtin_prefetch(next + c);
    __builtin_prefetch(next + c + 16);
    add_square_differences(a + c, b + c, sum);
  }
  if (c < channels) {
    float rest[2][32] = {{0}};
    memcpy(rest[0], a + c, (size_t)(channels - c) * sizeof(float));
    memcpy(rest[1], b + c, (size_t)(channels - c) * sizeof(float));
    add_square_differences(rest[0], rest[1], sum);
  }
  return 0.5f * sum_of_32(sum);
}

// Lane numbers of a mask's set bits, in their order.
AVX2 static inline __m256i lanes_of(const hgk_knn *s, uint32_t mask) {
  return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)s->order[mask]));
}

AVX2 static inline uint32_t above(__m256i value, __m256i bar) {
  __m256i greater = _mm256_cmpgt_epi32(value, bar);
  return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(greater));
}

AVX2 static int64_t compact_avx2(const hgk_knn *s, int32_t *score, int32_t *index, int64_t held,
                                 int32_t bar) {
  __m256i below = _mm256_set1_epi32(bar);
  int64_t kept = 0;
  for (int64_t c = 0; c < held; c += 8) {  // the capacity is a multiple of 8
    __m256i value = _mm256_loadu_si256((const __m256i *)(score + c));
    __m256i place = _mm256_loadu_si256((const __m256i *)(index + c));
    uint32_t mask = above(value, below);
    if (held - c < 8) mask &= (UINT32_C(1) << (held - c)) - 1;
    __m256i lanes = lanes_of(s, mask);
    value = _mm256_permutevar8x32_epi32(value, lanes);
    place = _mm256_permutevar8x32_epi32(place, lanes);
    _mm256_storeu_si256((__m256i *)(score + kept), value);
    _mm256_storeu_si256((__m256i *)(index + kept), place);
    kept += __builtin_popcount(mask);
  }
  return kept;
}

AVX2 __attribute__((noinline)) static void shrink_avx2(const hgk_knn *s, int64_t row) {
  shrink_row(s, row, 2, compact_avx2, half_distance_avx2);
}

AVX2 __attribute__((noinline)) static void collect_edge_avx2(const hgk_knn *s, const int32_t *tile,
                                                             int64_t row0, int64_t column0) {
  collect(s, tile, row0, column0, shrink_avx2);
}

// What `collect` does, for tiles without padding that lie right of the diagonal. Which entries are
// candidates cannot be foreseen, so there are as few branches on it as possible: every vector is
// compressed and stored whole, and what follows its candidates is overwritten by the next.
AVX2 __attribute__((noinline)) static void collect_avx2(const hgk_knn *s, const int32_t *tile,
                                                        int64_t row0, int64_t column0) {
  __m256i below_low = _mm256_loadu_si256((const __m256i *)(s->bar + column0));
  __m256i below_high = _mm256_loadu_si256((const __m256i *)(s->bar + column0 + 8));
  uint64_t columns = 0;  // bit PANEL * row + column
  for (int i = 0; i < MICRO; i++) {
    int64_t row = row0 + i;
    __m256i beside = _mm256_set1_epi32(s->bar[row]);
    int32_t *score = s->score + row * s->capacity, *index = s->index + row * s->capacity;
    int32_t count = s->count[row];
    for (int half = 0; half < 2; half++) {
      __m256i value = _mm256_loadu_si256((const __m256i *)(tile + PANEL * i + 8 * half));
      uint32_t mask = above(value, beside);
      __m256i lanes = lanes_of(s, mask);
      __m256i places = _mm256_add_epi32(lanes, _mm256_set1_epi32((int32_t)column0 + 8 * half));
      value = _mm256_permutevar8x32_epi32(value, lanes);
      _mm256_storeu_si256((__m256i *)(score + count), value);
      _mm256_storeu_si256((__m256i *)(index + count), places);
      count += __builtin_popcount(mask);
    }
    s->count[row] = count;
    if (count > s->capacity - PANEL) shrink_avx2(s, row);
    __m256i low = _mm256_loadu_si256((const __m256i *)(tile + PANEL * i));
    __m256i high = _mm256_loadu_si256((const __m256i *)(tile + PANEL * i + 8));
    columns |= (uint64_t)(above(low, below_low) | above(high, below_high) << 8) << (PANEL * i);
  }
  for (uint64_t bits = columns; bits; bits &= bits - 1) {
    int place = __builtin_ctzll(bits);
    int64_t column = column0 + place % PANEL;
    int32_t count = s->count[column]++;
    s->score[column * s->capacity + count] = tile[place];
    s->index[column * s->capacity + count] = (int32_t)row0 + place / PANEL;
    if (count >= s->capacity - PANEL) shrink_avx2(s, column);
  }
}

AVX2 static void micro_avx2(const hgk_knn *s, int64_t row0, int64_t column0) {
  int64_t pairs = pairs_of(s) & ~(int64_t)7;
  const int32_t *a = s->packed + row0 / PANEL * PANEL * pairs + row0 % PANEL;
  const int32_t *b = s->packed + column0 * pairs;
  __m256i sum[MICRO][2];
#pragma GCC unroll 4
  for (int i = 0; i < MICRO; i++) sum[i][0] = sum[i][1] = _mm256_setzero_si256();
#pragma GCC unroll 8  // also so that the number of rounds is one that the processor can predict
  for (int64_t p = 0; p < pairs; p++) {
    __m256i low = _mm256_loadu_si256((const __m256i *)(b + PANEL * p));
    __m256i high = _mm256_loadu_si256((const __m256i *)(b + PANEL * p + 8));
    PIN(low);  // loaded once, not with every use
    PIN(high);
#pragma GCC unroll 4
    for (int i = 0; i < MICRO; i++) {
      __m256i both = _mm256_set1_epi32(a[PANEL * p + i]);
      ADD(sum[i][0], _mm256_madd_epi16(both, low));
      ADD(sum[i][1], _mm256_madd_epi16(both, high));
    }
  }
  __m256i below_low = _mm256_loadu_si256((const __m256i *)(s->bar + column0));
  __m256i below_high = _mm256_loadu_si256((const __m256i *)(s->bar + column0 + 8));
  __m256i any = _mm256_setzero_si256();
#pragma GCC unroll 4
  for (int i = 0; i < MICRO; i++) {
    __m256i beside = _mm256_set1_epi32(s->bar[row0 + i]);
    // Above the lower of the two bars is above one of them.
    __m256i least_low = _mm256_min_epi32(beside, below_low);
    __m256i least_high = _mm256_min_epi32(beside, below_high);
    any = _mm256_or_si256(any, _mm256_cmpgt_epi32(sum[i][0], least_low));
    any = _mm256_or_si256(any, _mm256_cmpgt_epi32(sum[i][1], least_high));
  }
  if (_mm256_testz_si256(any, any)) return;
  int32_t tile[MICRO * PANEL];
#pragma GCC unroll 4
  for (int i = 0; i < MICRO; i++) {
    _mm256_storeu_si256((__m256i *)(tile + PANEL * i), sum[i][0]);
    _mm256_storeu_si256((__m256i *)(tile + PANEL * i + 8), sum[i][1]);
  }
  if (row0 + MICRO <= column0 && column0 + PANEL <= s->n)
    collect_avx2(s, tile, row0, column0);
  else
    collect_edge_avx2(s, tile, row0, column0);
}

AVX2 static void all_pairs_avx2(const hgk_knn *s) { all_pairs(s, micro_avx2); }

AVX2 static double round_avx2(const float *a, int64_t channels, float factor, int32_t *out) {
  __m256 by = _mm256_set1_ps(factor);
  __m256 lost[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  int64_t c = 0;
  for (; c + 16 <= channels; c += 16) {
    __m256 low = _mm256_mul_ps(_mm256_loadu_ps(a + c), by);
    __m256 high = _mm256_mul_ps(_mm256_loadu_ps(a + c + 8), by);
    __m256i whole_low = _mm256_cvtps_epi32(low), whole_high = _mm256_cvtps_epi32(high);
    low = _mm256_sub_ps(low, _mm256_cvtepi32_ps(whole_low));
    high = _mm256_sub_ps(high, _mm256_cvtepi32_ps(whole_high));
    lost[0] = _mm256_add_ps(lost[0], _mm256_mul_ps(low, low));
    lost[1] = _mm256_add_ps(lost[1], _mm256_mul_ps(high, high));
    int32_t both[8];
    __m256i packed = _mm256_packs_epi32(whole_low, whole_high);  // within halves of 128 bits
    packed = _mm256_permute4x64_epi64(packed, 0xD8);
    _mm256_storeu_si256((__m256i *)both, packed);
#pragma GCC unroll 8
    for (int p = 0; p < 8; p++) out[(c / 2 + p) * PANEL] = both[p];
  }
  double rest = round_portable(a + c, channels - c, factor, out + c / 2 * PANEL);
  return rest + sum_of(_mm256_add_ps(lost[0], lost[1]));
}

AVX2 static void prepare_avx2(hgk_knn *s) {
  prepare(s, largest_avx2, square_avx2, round_avx2);
}
AVX2 static void finish_avx2(const hgk_knn *s, int64_t begin, int64_t end, int64_t *nearest,
                             float *distance, int64_t *keys) {
  finish_rows(s, begin, end, nearest, distance, keys, compact_avx2, half_distance_avx2);
}
#endif

static void shrink_portable(const hgk_knn *s, int64_t row) { shrink_row(s, row, 2, compact_portable, half_distance_portable); }

static void micro_portable(const hgk_knn *s, int64_t row0, int64_t column0) {
  int64_t pairs = pairs_of(s);
  const int32_t *a = s->packed + row0 / PANEL * PANEL * pairs + row0 % PANEL;
  const int32_t *b = s->packed + column0 * pairs;
  int32_t tile[MICRO * PANEL] = {0};
  for (int64_t p = 0; p < pairs; p++)
    for (int i = 0; i < MICRO; i++) {
      int32_t even = (int16_t)a[PANEL * p + i], odd = a[PANEL * p + i] >> 16;
      for (int j = 0; j < PANEL; j++) {
        int32_t both = b[PANEL * p + j];
        tile[PANEL * i + j] += even * (int16_t)both + odd * (both >> 16);
      }
    }
  collect(s, tile, row0, column0, shrink_portable);
}

// Check sizes, round and pack. Returns non-zero if the sizes do not fit.
int hgk_knn_prepare(hgk_knn *s) {
  if (s->n < 1 || s->n > INT32_MAX - PANEL || s->channels < 0 || s->k < 0 || s->k >= s->n ||
      s->capacity < s->k + 4 * PANEL || s->capacity % 8 || s->block < PANEL || s->block % PANEL ||
      blocks_of(s) > 1 << 15)
    return 1;
#if HGK_X86
  if (has_avx2()) {
    prepare_avx2(s);
    return 0;
  }
#endif
  prepare(s, largest_portable, square_portable, round_portable);
  return 0;
}

// Work on pairs of blocks until none is left; any number of threads may call this at once.
void hgk_knn_collect(const hgk_knn *s) {
#if HGK_X86
  if (has_avx2()) {
    all_pairs_avx2(s);
    return;
  }
#endif
  all_pairs(s, micro_portable);
}

// Rows begin to end of nearest and distance [n, 1 + k], the row itself first.
void hgk_knn_finish(const hgk_knn *s, int64_t begin, int64_t end, int64_t *nearest,
                    float *distance, int64_t *keys) {
#if HGK_X86
  if (has_avx2()) {
    finish_avx2(s, begin, end, nearest, distance, keys);
    return;
  }
#endif
  finish_rows(s, begin, end, nearest, distance, keys, compact_portable, half_distance_portable);
}

// ---------------------------------------------------------------------------------------------
// The HGNN operator: scaled sums of rows over hyperedges, then over vertices.
//
// A block of channels goes through both sums before the next: it stays in a core's cache, packed,
// since every row of it is read as often as it has members.

typedef float vec8 __attribute__((vector_size(32), aligned(4)));

typedef struct {
  const int64_t *columns;  // [nnz] the row gathered at each position
  const int64_t *offsets;  // [rows + 1], or NULL: every row has `slots` positions
  int64_t slots, rows, nnz;
  const float *values;  // [nnz] factors in the order of positions, or NULL for ones
  uint16_t *narrow;     // [nnz] room for the columns, which hgk_check_segments fills, or NULL
} hgk_segments;

// They are read once for every block of channels: in 16 bits where those hold them.
INLINE int64_t column(const hgk_segments *s, int64_t p, const int narrow) {
  return narrow ? (int64_t)s->narrow[p] : s->columns[p];
}

// out[r] = scale[r] * factor * sum of value * x[column], `vectors` (at most 8) vectors wide.
INLINE void gather_rows(const hgk_segments *s, const float *x, int64_t stride, const float *scale,
                        float factor, float *out, int64_t out_stride, const int vectors,
                        const int narrow) {
  for (int64_t r = 0; r < s->rows; r++) {
    int64_t begin = s->offsets ? s->offsets[r] : r * s->slots;
    int64_t end = s->offsets ? s->offsets[r + 1] : begin + s->slots;
    vec8 sum[8];
    for (int v = 0; v < vectors; v++) sum[v] = (vec8){0};
    if (s->values) {
      for (int64_t p = begin; p < end; p++) {
        const float *row = x + column(s, p, narrow) * stride;
        vec8 value = s->values[p] - (vec8){0};
        for (int v = 0; v < vectors; v++) sum[v] += value * *(const vec8 *)(row + 8 * v);
      }
    } else {
      for (int64_t p = begin; p < end; p++) {
        const float *row = x + column(s, p, narrow) * stride;
        for (int v = 0; v < vectors; v++) sum[v] += *(const vec8 *)(row + 8 * v);
      }
    }
    vec8 by = (scale ? scale[r] * factor : factor) - (vec8){0};
    for (int v = 0; v < vectors; v++) *(vec8 *)(out + r * out_stride + 8 * v) = sum[v] * by;
  }
}

INLINE void gather_block(const hgk_segments *s, const float *x, int64_t width, const float *scale,
                         float factor, float *out, int64_t stride, const int narrow) {
  int64_t c = 0;
  for (; c + 64 <= width; c += 64)
    gather_rows(s, x + c, width, scale, factor, out + c, stride, 8, narrow);
  for (; c + 32 <= width; c += 32)
    gather_rows(s, x + c, width, scale, factor, out + c, stride, 4, narrow);
  for (; c + 16 <= width; c += 16)
    gather_rows(s, x + c, width, scale, factor, out + c, stride, 2, narrow);
  for (; c < width; c += 8)
    gather_rows(s, x + c, width, scale, factor, out + c, stride, 1, narrow);
}

INLINE void gather(const hgk_segments *s, const float *x, int64_t width, const float *scale,
                   float factor, float *out, int64_t stride) {
  if (s->narrow) {
    gather_block(s, x, width, scale, factor, out, stride, 1);
  } else {
    gather_block(s, x, width, scale, factor, out, stride, 0);
  }
}

INLINE void propagate(const float *z, int64_t channels, int64_t first, int64_t count,
                      const hgk_segments *by_edge, const hgk_segments *by_node,
                      const float *edge_scale, float factor, const float *node_scale, float *out,
                      float *workspace) {
  int64_t nodes = by_node->rows, edges = by_edge->rows, width = (count + 7) / 8 * 8;
  float *rows = workspace, *sums = rows + nodes * width;
  for (int64_t r = 0; r < nodes; r++) {
    const float *from = z + r * channels + first;
    float *to = rows + r * width, scale = node_scale ? node_scale[r] : 1.0f;
    for (int64_t c = 0; c < count; c++) to[c] = from[c] * scale;
    for (int64_t c = count; c < width; c++) to[c] = 0.0f;
  }
  gather(by_edge, rows, width, edge_scale, factor, sums, width);
  if (count == width) {
    gather(by_node, sums, width, node_scale, 1.0f, out + first, channels);
    return;
  }
  float *last = sums + edges * width;
  gather(by_node, sums, width, node_scale, 1.0f, last, width);
  for (int64_t r = 0; r < nodes; r++)
    for (int64_t c = 0; c < count; c++) out[r * channels + first + c] = last[r * width + c];
}

#if HGK_X86
AVX2 static void propagate_avx2(const float *z, int64_t channels, int64_t first, int64_t count,
                                const hgk_segments *by_edge, const hgk_segments *by_node,
                                const float *edge_scale, float factor, const float *node_scale,
                                float *out, float *workspace) {
  propagate(z, channels, first, count, by_edge, by_node, edge_scale, factor, node_scale, out,
            workspace);
}
#endif

// Returns non-zero if a list of segments names rows that are not there. Fills `narrow`, for which
// there may be at most 65536 inputs.
int hgk_check_segments(const hgk_segments *s, int64_t inputs) {
  if (s->narrow && inputs > 65536) return 1;
  uint64_t signs = 0, last = (uint64_t)inputs - 1;  // a number out of range leaves its sign
  for (int64_t p = 0; p < s->nnz; p++) {
    uint64_t at = (uint64_t)s->columns[p];
    signs |= at | (last - at);
    if (s->narrow) s->narrow[p] = (uint16_t)at;
  }
  int64_t wrong = (int64_t)(signs >> 63);
  if (!s->offsets) return wrong || s->slots < 0 || s->rows * s->slots != s->nnz;
  for (int64_t r = 0; r < s->rows; r++) wrong |= s->offsets[r] > s->offsets[r + 1];
  return wrong || s->offsets[0] < 0 || s->offsets[s->rows] > s->nnz;
}

// Channels first to first + count of out [nodes, channels], all of which lie in z [nodes, channels].
// The workspace holds (2 nodes + edges) rows of count, padded to 8.
void hgk_propagate(const float *z, int64_t channels, int64_t first, int64_t count,
                   const hgk_segments *by_edge, const hgk_segments *by_node,
                   const float *edge_scale, float factor, const float *node_scale, float *out,
                   float *workspace) {
#if HGK_X86
  if (has_avx2()) {
    propagate_avx2(z, channels, first, count, by_edge, by_node, edge_scale, factor, node_scale, out,
                   workspace);
    return;
  }
#endif
  propagate(z, channels, first, count, by_edge, by_node, edge_scale, factor, node_scale, out,
            workspace);
}
