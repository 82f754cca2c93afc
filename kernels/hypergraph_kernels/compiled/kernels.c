// The optional compiled CPU path: plain C11, no headers but the compiler's own.
//
// Every function that may touch memory through an index checks the index first and returns
// non-zero if it is out of range. All sizes and indices are int64.

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define HGK_X86 1
#include <immintrin.h>
#else
#define HGK_X86 0
#endif

#ifndef HGK_DIGEST
#define HGK_DIGEST "unknown"
#endif

// Digest of the source that this library was built from.
const char *hgk_digest(void) { return HGK_DIGEST; }

// The instruction set that the functions below use here.
const char *hgk_instructions(void) {
#if HGK_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
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
