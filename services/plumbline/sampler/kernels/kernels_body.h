/* The kernels, for one instruction set; kernels.c includes this file once for each. */

#define INLINE static inline __attribute__((always_inline))

INLINE vec NAME(splat)(float x) { return x - (vec){0}; }

INLINE float NAME(total)(vec x) {
  float sum = 0;
  for (int i = 0; i < LANES; i++) sum += x[i];
  return sum;
}

INLINE float NAME(highest)(vec x) {
  const ivec eight = {8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7};
  const ivec four = {4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11};
  const ivec two = {2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13};
  const ivec one = {1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14};
  vec y = __builtin_shuffle(x, eight);
  x = x > y ? x : y;
  y = __builtin_shuffle(x, four);
  x = x > y ? x : y;
  y = __builtin_shuffle(x, two);
  x = x > y ? x : y;
  y = __builtin_shuffle(x, one);
  x = x > y ? x : y;
  return x[0];
}

/* exp of x <= 0, to about one unit in the last place; exactly 1 at 0 and 0 below -87.
 * Source: the Cephes library's expf. */
INLINE vec NAME(exp)(vec x) {
  ivec flushed = x < -87.0f;
  x = flushed ? NAME(splat)(-87.0f) : x;
  vec scaled = x * 1.44269504088896341f - 0.5f;
  ivec whole = __builtin_convertvector(scaled, ivec); /* toward zero, and scaled is below 0 */
  vec n = __builtin_convertvector(whole, vec);
  x -= n * 0.693359375f;
  x -= n * -2.12194440e-4f;
  vec y = NAME(splat)(1.9875691500e-4f);
  y = y * x + 1.3981999507e-3f;
  y = y * x + 8.3334519073e-3f;
  y = y * x + 4.1665795894e-2f;
  y = y * x + 1.6666665459e-1f;
  y = y * x + 5.0000001201e-1f;
  y = y * (x * x) + x + 1.0f;
  vec power = (vec)((whole + 127) << 23);
  return (flushed ? NAME(splat)(0.0f) : y * power);
}

/* ---- attention ------------------------------------------------------------------------------ */

/* A query vector and what is known of it so far. */
struct NAME(query) {
  const float *vector; /* [width] */
  float *sums;         /* [padded] weighted sum of values */
  vec weights;         /* their sum, by lane */
  float high;          /* the highest score */
  int limit;           /* tokens that it may look at */
};

INLINE vec NAME(mask_scores)(const attention_work *w, vec score, int first, int limit, ivec *seen) {
  const int oldest = w->window > 0 ? limit - w->window : 0;
  if (w->softcap > 0)
    for (int lane = 0; lane < LANES; lane++)
      score[lane] = w->softcap * tanhf(score[lane] / w->softcap);
  if (first + BLOCK <= limit && first >= oldest) {
    *seen = (ivec){0} - 1;
    return score;
  }
  const ivec lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const ivec places = lanes + first;
  *seen = (places < limit) & (places >= oldest);
  return (*seen ? score : NAME(splat)(-1e30f));
}

/* Adds blocks [from, to) of one sequence to `count` query vectors. Blocks go two by two, from an
 * even one: the order of the sums must not depend on how a text is cut into parts, nor on the size
 * of a tile. A second block that is not there is one that nobody sees.
 * Source: the running softmax of Milakov and Gimelshein 2018, arXiv:1805.02867. */
INLINE void NAME(add_blocks)(const attention_work *w, const int32_t *table, int head, int from,
                             int to, int count, NAME(query) *queries) {
  const int width = w->width, padded = w->padded;
  const int64_t block_size = (int64_t)w->kv_heads * padded * BLOCK;
  const int64_t head_at = (int64_t)head * padded * BLOCK;
  float weighed[MAX_TILE][2][BLOCK];
  for (int b = from; b < to; b += 2) {
    const int pair = b + 1 < to ? 2 : 1;
    const float *values[2];
    vec scores[2][MAX_TILE];
    for (int half = 0; half < pair; half++) {
      const float *keys = w->keys + table[b + half] * block_size + head_at;
      values[half] = w->values + table[b + half] * block_size + head_at;
      /* Blocks lie anywhere, which no machine foresees: the next ones are fetched meanwhile. */
      const int64_t ahead = table[b + half + 2 < to ? b + half + 2 : b] * block_size + head_at;
      const float *next_keys = w->keys + ahead, *next_values = w->values + ahead;
      /* Two sums, for even and odd components, so that one need not wait for the other. */
      vec even[MAX_TILE], odd[MAX_TILE];
      for (int i = 0; i < count; i++) even[i] = odd[i] = NAME(splat)(0);
      for (int d = 0; d < width; d += 2) {
        vec key = *(const vec *)(keys + d * BLOCK), key1 = *(const vec *)(keys + d * BLOCK + BLOCK);
        __builtin_prefetch(next_keys + d * BLOCK);
        __builtin_prefetch(next_keys + d * BLOCK + BLOCK);
        __builtin_prefetch(next_values + d * BLOCK);
        __builtin_prefetch(next_values + d * BLOCK + BLOCK);
        for (int i = 0; i < count; i++) {
          even[i] += queries[i].vector[d] * key;
          odd[i] += queries[i].vector[d + 1] * key1;
        }
      }
      for (int i = 0; i < count; i++) scores[half][i] = (even[i] + odd[i]) * w->scale;
    }
    for (int i = 0; i < count; i++) {
      NAME(query) *query = queries + i;
      ivec seen[2] = {{0}, {0}};
      vec first = NAME(mask_scores)(w, scores[0][i], b * BLOCK, query->limit, &seen[0]);
      vec second = NAME(splat)(-1e30f);
      if (pair == 2)
        second = NAME(mask_scores)(w, scores[1][i], (b + 1) * BLOCK, query->limit, &seen[1]);
      float before = query->high;
      float high = NAME(highest)((first > second ? first : second));
      high = high > before ? high : before;
      vec weights = seen[0] ? NAME(exp)(first - high) : NAME(splat)(0);
      vec weights1 = seen[1] ? NAME(exp)(second - high) : NAME(splat)(0);
      if (high != before) {
        float shrink = NAME(exp)(NAME(splat)(before - high))[0];
        query->high = high;
        query->weights *= shrink;
        for (int d = 0; d < padded; d += LANES) *(vec *)(query->sums + d) *= shrink;
      }
      query->weights += weights + weights1;
      memcpy(weighed[i][0], &weights, sizeof weights);
      memcpy(weighed[i][1], &weights1, sizeof weights1);
    }
    for (int d = 0; d < padded; d += LANES) {
      vec even[MAX_TILE], odd[MAX_TILE];
      for (int i = 0; i < count; i++) {
        even[i] = *(vec *)(queries[i].sums + d);
        odd[i] = NAME(splat)(0);
      }
      for (int half = 0; half < pair; half++)
        for (int j = 0; j < BLOCK; j += 2) {
          vec value = *(const vec *)(values[half] + j * padded + d);
          vec value1 = *(const vec *)(values[half] + (j + 1) * padded + d);
          for (int i = 0; i < count; i++) {
            even[i] += weighed[i][half][j] * value;
            odd[i] += weighed[i][half][j + 1] * value1;
          }
        }
      for (int i = 0; i < count; i++) *(vec *)(queries[i].sums + d) = even[i] + odd[i];
    }
  }
}

/* The size of a tile is a constant in each call, so that its sums stay in registers. */
static void NAME(add_tile)(const attention_work *w, const int32_t *table, int head, int from,
                           int to, int count, NAME(query) *queries) {
  if (count == 8)
    NAME(add_blocks)(w, table, head, from, to, 8, queries);
  else if (count == 4)
    NAME(add_blocks)(w, table, head, from, to, 4, queries);
  else if (count == 2)
    NAME(add_blocks)(w, table, head, from, to, 2, queries);
  else
    NAME(add_blocks)(w, table, head, from, to, 1, queries);
}

/* Query vectors over blocks [from, the last that any of a tile needs, or `most`). */
static void NAME(add_range)(const attention_work *w, const int32_t *table, int head, int from,
                            int most, NAME(query) *queries, int total) {
  for (int q = 0; q < total;) {
    int left = total - q, count = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    int needed = 0;
    for (int i = 0; i < count; i++) {
      int blocks = (queries[q + i].limit + BLOCK - 1) / BLOCK;
      if (blocks > needed) needed = blocks;
    }
    NAME(add_tile)(w, table, head, from, most < needed ? most : needed, count, queries + q);
    q += count;
  }
}

/* One group and one head; `queries` and `sums` have room for its query vectors. */
static void NAME(attend_group)(const attention_work *w, int group, int head,
                               NAME(query) *queries, float *sums) {
  const int repeats = w->heads / w->kv_heads;
  const int s0 = w->group_start[group], s1 = w->group_start[group + 1];
  int total = 0;
  for (int s = s0; s < s1; s++)
    for (int row = w->query_start[s]; row < w->query_start[s + 1]; row++)
      for (int r = 0; r < repeats; r++, total++) {
        NAME(query) *query = queries + total;
        query->vector = w->query + ((int64_t)row * w->heads + head * repeats + r) * w->width;
        query->limit = w->lengths[s] - (w->query_start[s + 1] - 1 - row);
        query->high = -1e30f;
        query->weights = NAME(splat)(0);
        query->sums = sums + (int64_t)total * w->padded;
      }
  memset(sums, 0, (size_t)total * w->padded * sizeof(float));
  const int shared = w->group_shared[group] / 2 * 2; /* whole pairs */
  if (shared > 0)
    NAME(add_range)(w, w->tables + (int64_t)s0 * w->table_stride, head, 0, shared, queries, total);
  int q = 0;
  for (int s = s0; s < s1; s++) {
    int count = (w->query_start[s + 1] - w->query_start[s]) * repeats;
    NAME(add_range)(w, w->tables + (int64_t)s * w->table_stride, head, shared, INT32_MAX,
                    queries + q, count);
    q += count;
  }
  q = 0;
  for (int row = w->query_start[s0]; row < w->query_start[s1]; row++)
    for (int r = 0; r < repeats; r++, q++) {
      float *out = w->out + ((int64_t)row * w->heads + head * repeats + r) * w->width;
      float sum = NAME(total)(queries[q].weights);
      for (int d = 0; d < w->width; d++) out[d] = queries[q].sums[d] / sum;
    }
}

static void NAME(attention)(const attention_work *w) {
  const int units = w->groups * w->kv_heads;
  int most = 0;
  for (int g = 0; g < w->groups; g++) {
    int rows = w->query_start[w->group_start[g + 1]] - w->query_start[w->group_start[g]];
    if (rows > most) most = rows;
  }
  const size_t total = (size_t)most * (w->heads / w->kv_heads);
#pragma omp parallel num_threads(w->threads)
  {
    auto *queries = (NAME(query) *)malloc(total * sizeof(NAME(query)));
    auto *sums = (float *)malloc(total * w->padded * sizeof(float));
#pragma omp for schedule(dynamic, 1)
    for (int unit = 0; unit < units; unit++)
      NAME(attend_group)(w, unit / w->kv_heads, unit % w->kv_heads, queries, sums);
    free(queries);
    free(sums);
  }
}

/* ---- keys and values into the cache ---------------------------------------------------------- */

INLINE void NAME(rotate)(const float *x, const float *cosines, const float *sines, int width,
                         float *out) {
  const int half = width / 2;
  for (int d = 0; d < half; d++) {
    float low = x[d], high = x[d + half];
    out[d] = low * cosines[d] - high * sines[d];
    out[d + half] = high * cosines[d + half] + low * sines[d + half];
  }
}

static void NAME(rotate_all)(float *x, const float *cosines, const float *sines,
                             const int32_t *positions, int64_t tokens, int heads, int width,
                             int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (tokens * heads > 64)
  for (int64_t t = 0; t < tokens; t++) {
    const int64_t at = (int64_t)positions[t] * width;
    for (int h = 0; h < heads; h++) {
      float *row = x + (t * heads + h) * width;
      NAME(rotate)(row, cosines + at, sines + at, width, row);
    }
  }
}

static void NAME(store)(const store_work *w) {
  const int width = w->width, padded = w->padded;
  const int64_t block_size = (int64_t)w->kv_heads * padded * BLOCK;
#pragma omp parallel for schedule(static) num_threads(w->threads) if (w->tokens * w->kv_heads > 64)
  for (int t = 0; t < w->tokens; t++) {
    if (w->slots[t] < 0) continue;
    const int64_t block = w->slots[t] / BLOCK, place = w->slots[t] % BLOCK;
    const int64_t position = (int64_t)w->positions[t] * width;
    for (int h = 0; h < w->kv_heads; h++) {
      const float *key = w->key + ((int64_t)t * w->kv_heads + h) * width;
      const float *value = w->value + ((int64_t)t * w->kv_heads + h) * width;
      float rotated[MAX_WIDTH];
      if (w->cosines) {
        NAME(rotate)(key, w->cosines + position, w->sines + position, width, rotated);
        key = rotated;
      }
      const int64_t at = block * block_size + (int64_t)h * padded * BLOCK;
      float *keys = w->keys + at + place, *values = w->values + at + place * padded;
      for (int d = 0; d < width; d++) keys[d * BLOCK] = key[d];
      memcpy(values, value, width * sizeof(float));
    }
  }
}

/* ---- elementwise ----------------------------------------------------------------------------- */

static void NAME(rms_norm)(const float *x, const float *weight, float *out, int64_t rows,
                           int64_t width, float epsilon, int threads) {
  const int64_t even = width / LANES * LANES;
#pragma omp parallel for schedule(static) num_threads(threads) if (rows * width > 16384)
  for (int64_t r = 0; r < rows; r++) {
    const float *row = x + r * width;
    float *to = out + r * width;
    vec sums = NAME(splat)(0);
    for (int64_t i = 0; i < even; i += LANES) {
      vec part = *(const vec *)(row + i);
      sums += part * part;
    }
    float sum = NAME(total)(sums);
    for (int64_t i = even; i < width; i++) sum += row[i] * row[i];
    float factor = 1.0f / sqrtf(sum / (float)width + epsilon);
    for (int64_t i = 0; i < width; i++) to[i] = weight[i] * (row[i] * factor);
  }
}

static void NAME(silu_mul)(float *gate, const float *up, int64_t count, int threads) {
  const int64_t even = count / LANES;
#pragma omp parallel for schedule(static) num_threads(threads) if (count > 16384)
  for (int64_t i = 0; i < even; i++) {
    vec x = *(vec *)(gate + i * LANES), size = x < 0 ? x : -x;
    vec small = NAME(exp)(size); /* of -|x|, which cannot overflow */
    vec sigmoid = (x < 0 ? small : NAME(splat)(1)) / (1.0f + small);
    *(vec *)(gate + i * LANES) = x * sigmoid * *(const vec *)(up + i * LANES);
  }
  for (int64_t i = even * LANES; i < count; i++) {
    float small = expf(-fabsf(gate[i]));
    gate[i] *= (gate[i] < 0 ? small : 1.0f) / (1.0f + small) * up[i];
  }
}

/* ---- drawing --------------------------------------------------------------------------------- */

/* Weights exp((x - high) / temperature) of up to SUM_BLOCK logits. */
INLINE double NAME(block_sum)(const float *x, int count, float high, float inverse) {
  vec sums = NAME(splat)(0);
  int i = 0;
  for (; i + LANES <= count; i += LANES)
    sums += NAME(exp)((*(const vec *)(x + i) - high) * inverse);
  if (i < count) {
    vec rest = NAME(splat)(-1e30f);
    memcpy(&rest, x + i, (count - i) * sizeof(float));
    sums += NAME(exp)((rest - high) * inverse);
  }
  double sum = 0;
  for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
  return sum;
}

INLINE double NAME(weight)(float x, float high, float inverse) {
  return NAME(exp)(NAME(splat)((x - high) * inverse))[0];
}

INLINE int NAME(search_all)(const float *x, int vocabulary, float high, float inverse, double target,
                            const double *sums) {
  double before = 0;
  int block = 0, blocks = (vocabulary + SUM_BLOCK - 1) / SUM_BLOCK;
  while (block + 1 < blocks && before + sums[block] <= target) before += sums[block++];
  int start = block * SUM_BLOCK, end = start + SUM_BLOCK < vocabulary ? start + SUM_BLOCK : vocabulary;
  int last = start;
  for (int i = start; i < end; i++) {
    double weight = NAME(weight)(x[i], high, inverse);
    if (weight > 0) last = i; /* two ways of adding may differ in the last place */
    before += weight;
    if (before > target) return i;
  }
  return last;
}

/* Keys that sort like the floats that they are made of, the largest first. */
INLINE uint32_t NAME(sort_key)(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
}

/* Sorts ids by their logits, the largest first and equal ones by id: a radix sort of 11 bits. */
static void NAME(sort_ids)(const float *x, int32_t *ids, int32_t *spare, int count) {
  for (int shift = 0; shift < 33; shift += 11) {
    int32_t starts[2049] = {0};
    for (int i = 0; i < count; i++) starts[((NAME(sort_key)(x[ids[i]]) >> shift) & 2047) + 1]++;
    for (int i = 0; i < 2048; i++) starts[i + 1] += starts[i];
    for (int i = 0; i < count; i++)
      spare[starts[(NAME(sort_key)(x[ids[i]]) >> shift) & 2047]++] = ids[i];
    int32_t *swap = ids;
    ids = spare;
    spare = swap;
  }
  /* Three passes end in the other buffer. */
  memcpy(spare, ids, (size_t)count * sizeof *ids);
}

#define BINS 4096
#define BIN_WIDTH (1.0f / 64) /* nats of the tempered distribution */

INLINE int NAME(bin)(float x, float high, float inverse) {
  float distance = (high - x) * inverse * (1 / BIN_WIDTH);
  return distance < BINS - 1 ? (int)distance : BINS - 1;
}

/* Draws from what top-k, top-p and min-p leave. Only the tokens that can be left are sorted: bins
 * of the distance to the highest logit tell which. */
static int NAME(draw_cut)(const draw_work *w, int row, const float *x, float high, float inverse,
                          double total, double *logprob) {
  const int vocabulary = w->vocabulary;
  const int top_k = w->top_k[row] > 0 && w->top_k[row] < vocabulary ? w->top_k[row] : vocabulary;
  const double top_p = w->top_p[row], floor = w->min_p[row];
  auto *counts = (int32_t *)calloc(BINS, sizeof(int32_t));
  auto *ids = (int32_t *)malloc((size_t)vocabulary * sizeof(int32_t));
  auto *spare = (int32_t *)malloc((size_t)vocabulary * sizeof(int32_t));
  auto *masses = (double *)calloc(BINS, sizeof(double));
  for (int i = 0; i < vocabulary; i += LANES) {
    const int count = vocabulary - i < LANES ? vocabulary - i : LANES;
    vec part = NAME(splat)(-1e30f);
    memcpy(&part, x + i, count * sizeof(float));
    vec weights = NAME(exp)((part - high) * inverse);
    for (int lane = 0; lane < count; lane++) {
      int bin = NAME(bin)(part[lane], high, inverse);
      counts[bin]++;
      masses[bin] += weights[lane];
    }
  }
  /* After top-k, top-p is a share of what that left, so all of it has to be known. */
  int edge = 0, kept = 0;
  double mass = 0;
  while (edge < BINS && kept < top_k) {
    kept += counts[edge];
    mass += masses[edge++];
    if (top_k < vocabulary) continue;
    if ((top_p < 1 && mass > top_p * total * (1 + 1e-9)) ||
        (floor > 0 && edge * BIN_WIDTH > -log(floor)))
      break;
  }
  int count = 0;
  for (int i = 0; i < vocabulary; i++)
    if (NAME(bin)(x[i], high, inverse) < edge) ids[count++] = i;
  NAME(sort_ids)(x, ids, spare, count);
  if (count > top_k) count = top_k;
  double all = 0;
  if (top_k < vocabulary)
    for (int i = 0; i < count; i++) all += NAME(weight)(x[ids[i]], high, inverse);
  else
    all = total;
  double running = 0;
  int left = 0;
  while (left < count) {
    double weight = NAME(weight)(x[ids[left]], high, inverse);
    if (left > 0 && ((top_p < 1 && running >= top_p * all) || weight < floor)) break;
    running += weight;
    left++;
  }
  double target = w->uniforms[row] * running, before = 0;
  int found = left - 1;
  for (int i = 0; i < left; i++) {
    before += NAME(weight)(x[ids[i]], high, inverse);
    if (before > target) {
      found = i;
      break;
    }
  }
  int token = ids[found];
  *logprob = (double)((x[token] - high) * inverse) - log(running);
  free(counts);
  free(ids);
  free(spare);
  free(masses);
  return token;
}

static void NAME(draw_row)(const draw_work *w, int row, double *sums) {
  const int vocabulary = w->vocabulary, blocks = (vocabulary + SUM_BLOCK - 1) / SUM_BLOCK;
  const float *x = w->logits + (int64_t)row * vocabulary;
  vec highs = NAME(splat)(-INFINITY);
  int i = 0;
  for (; i + LANES <= vocabulary; i += LANES) {
    vec part = *(const vec *)(x + i);
    highs = part > highs ? part : highs;
  }
  float high = NAME(highest)(highs);
  for (; i < vocabulary; i++) high = x[i] > high ? x[i] : high;
  double whole = 0;
  for (int b = 0; b < blocks; b++) {
    int start = b * SUM_BLOCK, left = vocabulary - start;
    sums[b] = NAME(block_sum)(x + start, left < SUM_BLOCK ? left : SUM_BLOCK, high, 1.0f);
    whole += sums[b];
  }
  const double temperature = w->temperatures[row];
  int token = 0;
  double logprob = 0;
  if (!(whole > 0)) { /* not numbers: the caller sees it in the logprob */
    w->tokens[row] = 0;
    w->logprobs[row] = w->untempered[row] = NAN;
    return;
  }
  if (temperature == 0) {
    while (x[token] != high && token + 1 < vocabulary) token++;
  } else {
    const float inverse = (float)(1 / temperature);
    double total = whole;
    if (inverse != 1) {
      total = 0;
      for (int b = 0; b < blocks; b++) {
        int start = b * SUM_BLOCK, left = vocabulary - start;
        sums[b] = NAME(block_sum)(x + start, left < SUM_BLOCK ? left : SUM_BLOCK, high, inverse);
        total += sums[b];
      }
    }
    if (w->top_p[row] < 1 || w->top_k[row] > 0 || w->min_p[row] > 0) {
      token = NAME(draw_cut)(w, row, x, high, inverse, total, &logprob);
    } else {
      token = NAME(search_all)(x, vocabulary, high, inverse, w->uniforms[row] * total, sums);
      logprob = (double)((x[token] - high) * inverse) - log(total);
    }
  }
  w->tokens[row] = token;
  w->logprobs[row] = logprob;
  w->untempered[row] = (double)(x[token] - high) - log(whole);
}

static void NAME(draw)(const draw_work *w) {
  const int blocks = (w->vocabulary + SUM_BLOCK - 1) / SUM_BLOCK;
#pragma omp parallel num_threads(w->threads)
  {
    auto *sums = (double *)malloc((size_t)blocks * sizeof(double));
#pragma omp for schedule(dynamic, 1)
    for (int row = 0; row < w->rows; row++) NAME(draw_row)(w, row, sums);
    free(sums);
  }
}

#undef INLINE
#undef BINS
#undef BIN_WIDTH
