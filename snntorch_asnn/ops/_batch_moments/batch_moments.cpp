// Mean and variance of each channel, and the gradient that reaches the input through them, on a CPU.
//
// Macros: INPUT is the type of the input and of its gradient, STATE that of everything else, see vectors.h.
//
// A tensor is [T, B, C, M]: C counts the channels, B lies outside of them in memory and M inside. Work is cut
// into tiles. Moments of a tile are taken twice over, mean first, while it is in the first cache: no large
// mean cancels a small variance. Those of many tiles are joined in double, in an order that depends on the
// shape alone, so that results are the same on any number of threads.

#include "vectors.h"

namespace {

constexpr int64_t SHORTEST_STRETCH = 64;  // elements of a channel, below which each column has its own moments
constexpr int64_t TILE = 2048;            // elements of a channel that are read twice from the cache
constexpr int64_t ROWS = 32;              // rows that are, of columns
constexpr int64_t VECTORS = 4;            // vectors of columns that are taken at a time
constexpr int64_t GROUP = 32768;          // elements of a group of rows at least

typedef double Doubles __attribute__((vector_size(LANES * sizeof(double))));

// Strides are in elements. A row holds channels * inner elements, dense.
struct Shape {
    int64_t steps, outer, channels, inner;

    int64_t rows() const { return steps * outer; }
    int64_t row() const { return channels * inner; }
};

struct Strides {
    int64_t step, outer;

    int64_t at(const Shape& shape, int64_t row) const {
        return row / shape.outer * step + row % shape.outer * outer;
    }
};

// Channels with a long stretch of memory each, cut into parts: a group of tiles is one row. Or short ones,
// whose elements have moments of their own first: a group is many rows.
struct Tiling {
    bool by_column;
    int64_t length, parts, rows_each, groups;

    explicit Tiling(const Shape& shape) : by_column(shape.inner < SHORTEST_STRETCH) {
        parts = by_column ? shape.inner : ratio_up(shape.inner, TILE);
        length = by_column ? 1 : ratio_up(shape.inner, parts);
        int64_t enough = std::max(ratio_up(shape.rows(), MOST_GROUPS), ratio_up(GROUP, shape.row()));
        rows_each = by_column ? ratio_up(enough, ROWS) * ROWS : 1;
        groups = ratio_up(shape.rows(), rows_each);
    }

    // Elements behind each pair of partial moments.
    int64_t count(const Shape& shape, int64_t group, int64_t part) const {
        int64_t rows = std::min(rows_each, shape.rows() - group * rows_each);
        return rows * (by_column ? 1 : std::min(length, shape.inner - part * length));
    }
};

// Means and squared deviations [groups, channels, parts].
struct Partial {
    double *means, *deviations;
};

// Of one stretch of memory.
void moments_of_stretch(const Input* x, int64_t length, const Input* ahead, double* mean, double* deviation) {
    V sum{}, others{};
    int64_t i = 0;
    for (; i + 2 * LANES <= length; i += 2 * LANES) {
        fetch(ahead, i);
        fetch(ahead, i + LANES);
        sum += load(x, Whole{i});
        others += load(x, Whole{i + LANES});
    }
    for_each_vector(length - i, [&](auto at) INLINE_BODY { sum += load(x + i, at); });
    State middle = total(sum + others) / State(length);
    V shifts{}, squares{};
    V whole = splat(middle);
    for (i = 0; i + LANES <= length; i += LANES) {
        V away = load(x, Whole{i}) - whole;
        shifts += away;
        squares += away * away;
    }
    double shift = total(shifts), square = total(squares);
    for (; i < length; ++i) {
        double away = double(load(x, Part{i, 1})[0]) - double(middle);
        shift += away;
        square += away * away;
    }
    *mean = double(middle) + shift / double(length);
    *deviation = square - shift * shift / double(length);
}

// Joins the moments of a few vectors of columns over one block of rows to those over the rows before it.
template <int64_t COUNT, class At>
INLINE void join_block(const Input* const* rows, int64_t count, int64_t before, int64_t column, At last,
                       Partial to) {
    V sum[COUNT]{}, shifts[COUNT]{}, squares[COUNT]{};
    auto each = [&](auto body) INLINE_BODY {
        for (int64_t row = 0; row < count; ++row) {
            const Input* x = rows[row] + column;
            for (int64_t k = 0; k + 1 < COUNT; ++k) body(k, load(x, Whole{k * LANES}));
            At at = last;
            at.i += (COUNT - 1) * LANES;
            body(COUNT - 1, load(x, at));
        }
    };
    each([&](int64_t k, V x) INLINE_BODY { sum[k] += x; });
    for (int64_t k = 0; k < COUNT; ++k) sum[k] /= State(count);
    each([&](int64_t k, V x) INLINE_BODY {
        V away = x - sum[k];
        shifts[k] += away;
        squares[k] += away * away;
    });
    double weight = double(before) * double(count) / double(before + count);
    double share = double(count) / double(before + count);
    for (int64_t k = 0; k < COUNT; ++k) {
        Doubles shift = __builtin_convertvector(shifts[k], Doubles) / double(count);
        Doubles square = __builtin_convertvector(squares[k], Doubles) - shift * shift * double(count);
        Doubles mean = __builtin_convertvector(sum[k], Doubles) + shift, old_mean{}, old_square{};
        int64_t at = column + k * LANES;
        size_t bytes = k + 1 < COUNT ? sizeof(Doubles) : size_t(last.bytes(sizeof(double)));
        std::memcpy(&old_mean, to.means + at, bytes);
        std::memcpy(&old_square, to.deviations + at, bytes);
        Doubles apart = mean - old_mean;
        mean = old_mean + apart * share;
        square = old_square + square + apart * apart * weight;
        std::memcpy(to.means + at, &mean, bytes);
        std::memcpy(to.deviations + at, &square, bytes);
    }
}

void moments_of_columns(const Shape& shape, const Tiling& tiling, int64_t group, const Input* x,
                        Strides strides, Partial to) {
    int64_t first = group * tiling.rows_each;
    int64_t end = std::min(first + tiling.rows_each, shape.rows()), columns = shape.row();
    std::fill_n(to.means, columns, 0.0);
    std::fill_n(to.deviations, columns, 0.0);
    for (int64_t block = first; block < end; block += ROWS) {
        int64_t count = std::min(ROWS, end - block), column = 0;
        const Input* rows[ROWS];
        for (int64_t row = 0; row < count; ++row) rows[row] = x + strides.at(shape, block + row);
        for (; column + VECTORS * LANES <= columns; column += VECTORS * LANES) {
            join_block<VECTORS>(rows, count, block - first, column, Whole{0}, to);
        }
        for (; column + LANES <= columns; column += LANES) {
            join_block<1>(rows, count, block - first, column, Whole{0}, to);
        }
        if (column < columns) join_block<1>(rows, count, block - first, column, Part{0, columns - column}, to);
    }
}

// Moments of all tiles of a channel, joined.
void join(const Shape& shape, const Tiling& tiling, int64_t channel, Partial from, State* mean,
          State* variance) {
    double total = double(shape.rows()) * double(shape.inner), sum = 0, squares = 0;
    auto each = [&](auto body) {
        for (int64_t group = 0; group < tiling.groups; ++group) {
            int64_t at = (group * shape.channels + channel) * tiling.parts;
            for (int64_t part = 0; part < tiling.parts; ++part) {
                body(at + part, double(tiling.count(shape, group, part)));
            }
        }
    };
    each([&](int64_t at, double count) { sum += count * from.means[at]; });
    double middle = sum / total;
    each([&](int64_t at, double count) {
        double apart = from.means[at] - middle;
        squares += from.deviations[at] + count * apart * apart;
    });
    *mean = State(middle);
    *variance = State(squares / total);
}

// Moments of each channel, from the partial ones of all tiles.
void moments_of_all(const Shape& shape, Strides x_strides, const Input* from, double* partial, State* mean,
                    State* variance, int threads) {
    Tiling tiling(shape);
    int64_t row = shape.channels * tiling.parts;
    Partial all{partial, partial + tiling.groups * row};
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        if (tiling.by_column) {
#pragma omp for
            for (int64_t group = 0; group < tiling.groups; ++group) {
                Partial to{all.means + group * row, all.deviations + group * row};
                moments_of_columns(shape, tiling, group, from, x_strides, to);
            }
        } else {
#pragma omp for
            for (int64_t item = 0; item < tiling.groups * row; ++item) {
                int64_t channel = item % row / tiling.parts, start = item % tiling.parts * tiling.length;
                const Input* tile = from + x_strides.at(shape, item / row) + channel * shape.inner + start;
                int64_t length = std::min(tiling.length, shape.inner - start);
                moments_of_stretch(tile, length, tile + length, all.means + item, all.deviations + item);
            }
        }
#pragma omp for
        for (int64_t channel = 0; channel < shape.channels; ++channel) {
            join(shape, tiling, channel, all, mean + channel, variance + channel);
        }
    }
}

// to = grad + offset + factor * (x - mean), along one stretch of memory.
template <bool PER_ELEMENT>
void add(const Input* x, const State* const* parameters, int64_t length, Input* grad) {
    const State *mean = parameters[0], *offset = parameters[1], *factor = parameters[2];
    V shared_mean = splat(*mean), shared_offset = splat(*offset), shared_factor = splat(*factor);
    for_each_vector(length, [&](auto at) INLINE_BODY {
        V away = load(x, at) - (PER_ELEMENT ? load(mean, at) : shared_mean);
        V slope = PER_ELEMENT ? load(factor, at) : shared_factor;
        V level = PER_ELEMENT ? load(offset, at) : shared_offset;
        store(grad, at, load(grad, at) + (level + slope * away));
    });
}

}  // namespace

// How many pairs of partial moments a shape needs.
extern "C" int64_t batch_moments_partial_size(const int64_t* sizes) {
    Shape shape{sizes[0], sizes[1], sizes[2], sizes[3]};
    Tiling tiling(shape);
    return tiling.groups * shape.channels * tiling.parts;
}

// Moments [C] over all steps together, or with each_step [T, C] over every step alone; partial then has the
// size for one step.
extern "C" void batch_moments(const int64_t* sizes, const int64_t* strides, const void* x, double* partial,
                              void* mean, void* variance, int each_step, int threads) {
    Strides x_strides{strides[0], strides[1]};
    int64_t calls = each_step ? sizes[0] : 1;
    Shape shape{each_step ? 1 : sizes[0], sizes[1], sizes[2], sizes[3]};
    for (int64_t call = 0; call < calls; ++call) {
        moments_of_all(shape, x_strides, static_cast<const Input*>(x) + call * x_strides.step, partial,
                       static_cast<State*>(mean) + call * shape.channels,
                       static_cast<State*>(variance) + call * shape.channels, threads);
    }
}

// Parameters are mean, offset and factor: of each channel, or where stretches are short of each element. From
// one step to the next they advance by parameter_step elements; 0 is one set for all steps.
extern "C" void batch_moments_add(const int64_t* sizes, const int64_t* strides, const void* x,
                                  const void* const* parameters, int64_t parameter_step,
                                  const int64_t* grad_strides, void* grad, int threads) {
    Shape shape{sizes[0], sizes[1], sizes[2], sizes[3]};
    Strides x_strides{strides[0], strides[1]}, to_strides{grad_strides[0], grad_strides[1]};
    bool per_element = shape.inner == 1;
    int64_t length = per_element ? shape.channels : shape.inner;
    int64_t stretches = per_element ? 1 : shape.channels;
    const State* const* given = reinterpret_cast<const State* const*>(parameters);
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t item = 0; item < shape.rows() * stretches; ++item) {
        int64_t row = item / stretches, channel = item % stretches, start = channel * shape.inner;
        int64_t at = row / shape.outer * parameter_step + channel;
        const State* here[] = {given[0] + at, given[1] + at, given[2] + at};
        (per_element ? add<true> : add<false>)(static_cast<const Input*>(x) + x_strides.at(shape, row) + start,
                                               here, length,
                                               static_cast<Input*>(grad) + to_strides.at(shape, row) + start);
    }
}
