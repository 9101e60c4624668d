/* Kernels of the sampling engine for CPUs, called through ctypes; the tensors' side and the same
 * mathematics in torch are in __init__.py.
 *
 * One body is compiled for several instruction sets, and the best that the machine has is chosen
 * when the library is loaded. Each result is a function of its own row alone: rows that are
 * computed beside it, and the threads that share the work, change no bit of it.
 */
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#define BLOCK 16 /* tokens of a cache block, and lanes of a vector */
#define LANES 16
#define SUM_BLOCK 256 /* tokens whose weights are added up before a search goes into them */
#define MAX_TILE 8     /* query vectors that share a load of keys */
#define MAX_WIDTH 1024 /* of a head */

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4)));

struct attention_work {
  const float *query; /* [T, heads, width] */
  float *out;         /* [T, heads, width] */
  float *keys;        /* [blocks, kv_heads, padded, BLOCK] */
  float *values;      /* [blocks, kv_heads, BLOCK, padded] */
  const int32_t *tables;       /* [S, table_stride] block ids of each sequence */
  const int32_t *query_start;  /* [S + 1] first row of each sequence */
  const int32_t *lengths;      /* [S] tokens of each sequence, those of this step included */
  const int32_t *group_start;  /* [G + 1] first sequence of each group */
  const int32_t *group_shared; /* [G] first blocks that the group's sequences have in common */
  int32_t table_stride, groups, heads, kv_heads, width, padded, window, threads;
  float scale, softcap;
};

struct store_work {
  const float *key;         /* [T, kv_heads, width] */
  const float *value;       /* [T, kv_heads, width] */
  const float *cosines;     /* [positions, width]; null where nothing is rotated */
  const float *sines;       /* [positions, width] */
  const int32_t *positions; /* [T] */
  const int32_t *slots;     /* [T] block id * BLOCK + place in it; negative: not kept */
  float *keys, *values;     /* as in attention_work */
  int32_t tokens, kv_heads, width, padded, threads;
};

struct draw_work {
  const float *logits;         /* [B, vocabulary] */
  const double *temperatures;  /* [B], 0 takes the likeliest token */
  const double *uniforms;      /* [B] in [0, 1) */
  const double *top_p, *min_p; /* [B]; 1 and 0 cut nothing */
  const int32_t *top_k;        /* [B]; 0 cuts nothing */
  int64_t *tokens;             /* [B] */
  double *logprobs;            /* [B] nats of the distribution that was drawn from */
  double *untempered;          /* [B] nats of the whole distribution at temperature 1 */
  int32_t rows, vocabulary, threads;
};

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define MANY_SETS 1
#endif

#ifdef MANY_SETS
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4,prefer-vector-width=512")
#define NAME(name) name##_v4
#include "kernels_body.h"
#undef NAME
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v3")
#define NAME(name) name##_v3
#include "kernels_body.h"
#undef NAME
#pragma GCC pop_options
#endif
#define NAME(name) name##_plain
#include "kernels_body.h"
#undef NAME

#ifdef MANY_SETS
static int level(void) {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    return 4;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 3 : 0;
}
#define DISPATCH(name, ...)                 \
  switch (level()) {                        \
  case 4: name##_v4(__VA_ARGS__); break;    \
  case 3: name##_v3(__VA_ARGS__); break;    \
  default: name##_plain(__VA_ARGS__);       \
  }
#else
#define DISPATCH(name, ...) name##_plain(__VA_ARGS__);
#endif

extern "C" {
void plumbline_attention(const attention_work *work) { DISPATCH(attention, work) }
void plumbline_store(const store_work *work) { DISPATCH(store, work) }
void plumbline_rotate(float *x, const float *cosines, const float *sines,
                      const int32_t *positions, int64_t tokens, int heads, int width,
                      int threads) {
  DISPATCH(rotate_all, x, cosines, sines, positions, tokens, heads, width, threads)
}
void plumbline_draw(const draw_work *work) { DISPATCH(draw, work) }
void plumbline_rms_norm(const float *x, const float *weight, float *out, int64_t rows,
                        int64_t width, float epsilon, int threads) {
  DISPATCH(rms_norm, x, weight, out, rows, width, epsilon, threads)
}
void plumbline_silu_mul(float *gate, const float *up, int64_t count, int threads) {
  DISPATCH(silu_mul, gate, up, count, threads)
}
}
