// Adaptive leaky neurons over a whole sequence, forward and backward, on a CPU.
//
// The neuron's rule comes in as macros, so that a compiler sees one equation without branches:
//   INPUT            type of x, of the spikes and of their gradients, see vectors.h
//   STATE            type of the membrane and of the coefficients
//   RESET            DELAYED, IMMEDIATE (snnTorch's) or EXACT
//   MECHANISM        NONE, SUBTRACT or ZERO
//   SURROGATE        ATAN, FAST_SIGMOID, SIGMOID, TRIANGULAR or STRAIGHT_THROUGH
//   FIRES_AT_THRESHOLD, CUTS_PREVIOUS_RESET, CUTS_CURRENT_RESET, HAS_SHIFT: 0 or 1
//   WANTED           bits of the coefficients whose gradients are computed, in the order of `Coefficients`
//
// A tensor is [T, B, C, M]: C counts the coefficients of one step, B lies outside of them in memory and M
// inside. Work is cut into tiles that go through all steps at once: their membranes stay in the cache, and
// memory is read and written once. What a tile is depends on the shape alone, so that results are the same
// on any number of threads.

#include "vectors.h"

namespace {

enum Reset { DELAYED, IMMEDIATE, EXACT };
enum Mechanism { NONE, SUBTRACT, ZERO };
enum SurrogateKind { ATAN, FAST_SIGMOID, SIGMOID, TRIANGULAR, STRAIGHT_THROUGH };
enum Coefficient { BETA, GAIN, THRESHOLD, PREVIOUS, SCALE, SHIFT, COEFFICIENTS };

constexpr bool RESETS = MECHANISM != NONE;
constexpr bool RESETS_LATE = RESETS && RESET != EXACT;
constexpr bool RESETS_NOW = RESETS && RESET != DELAYED;

// In states: tiles that keep to the first and second cache, and are long enough to be read at full speed.
constexpr int64_t FORWARD_TILE = 1024;
constexpr int64_t BACKWARD_TILE = 1024;
constexpr int64_t SHORTEST_TILE = 64;
constexpr int64_t CACHED_STATES = 32768;
// Steps that one sweep of the backward pass takes, with membranes in registers: as many as there is room for.
constexpr int64_t BLOCK = LANES * sizeof(State) == 64 ? 4 : 2;
constexpr int64_t PADDING = 64;  // between the states of two steps, which must not fall into one cache set
constexpr int64_t GROUP = 1 << 16;  // elements that have sums of their own at least: sums cost memory too
constexpr int64_t ROWS_IN_ONE_SUM = 16;  // rows summed in the state's precision before a sum in double

constexpr bool wants(int which) { return (WANTED >> which) & 1; }

// How many wanted coefficients come before this one.
constexpr int slot(int which) { return which == 0 ? 0 : slot(which - 1) + wants(which - 1); }

constexpr int COUNT_WANTED = slot(COEFFICIENTS);

// For x <= 0.
INLINE V exponential(V x) {
    if constexpr (sizeof(State) == sizeof(double)) {
        for (int64_t lane = 0; lane < LANES; ++lane) x[lane] = std::exp(x[lane]);
        return x;
    } else {  // 2 to the power of a whole number n and of a fraction, whose series ends below 2 ulp
        x = larger(x, splat(-86));
        // The sum has n in its last bits, from where it is moved to the exponent's.
        V sum = fused(x, splat(State(1.44269504)), splat(State(12582912))), n = sum - State(12582912);
        V fraction = fused(x, splat(State(1.44269504)), -n);
        fraction = fused(x, splat(State(1.9259630e-8)), fraction);
        V power = splat(State(1.5403530e-4));
        for (double term : {1.3333558e-3, 9.6181291e-3, 5.5504109e-2, 2.4022651e-1, 6.9314718e-1, 1.0}) {
            power = fused(power, fraction, splat(State(term)));
        }
        Integers exponent = (Integers)__builtin_convertvector(sum, Floats) << 23;
        Integers whole = (Integers)__builtin_convertvector(power, Floats) + exponent;
        return __builtin_convertvector((Floats)whole, V);
    }
}

INLINE auto fires(V above) {
    if constexpr (FIRES_AT_THRESHOLD) return above >= 0;
    else return above > 0;
}

INLINE V spike(V above) { return fires(above) ? splat(1) : splat(0); }

// The derivative of a spike by the membrane less the threshold.
struct Surrogate {
    V shape, first{}, second{};

    explicit Surrogate(State shape_) : shape(splat(shape_)) {
        double wide = double(shape_);
        if constexpr (SURROGATE == ATAN) {  // (shape / 2) / (1 + (pi / 2 * shape * above)^2)
            first = splat(State(3.141592653589793 * 3.141592653589793 / 2 * wide));
            second = splat(State(2 / wide));
        } else if constexpr (SURROGATE == TRIANGULAR) {
            first = splat(State(1 / (wide * wide)));
        }
    }

    INLINE V operator()(V above) const {
        if constexpr (SURROGATE == ATAN) {
            return reciprocal(fused(first * above, above, second));
        } else if constexpr (SURROGATE == FAST_SIGMOID) {
            V root = fused(shape, magnitude(above), splat(1));
            return reciprocal(root * root);
        } else if constexpr (SURROGATE == SIGMOID) {  // shape * s * (1 - s), which is even
            V power = exponential(-shape * magnitude(above)), root = power + 1;
            return shape * power * reciprocal(root * root);
        } else if constexpr (SURROGATE == TRIANGULAR) {
            return larger(shape - magnitude(above), V{}) * first;
        } else {
            return splat(1);
        }
    }
};

struct Now {
    V beta, gain, threshold, previous, scale, shift;
};

struct Moment {
    V reset, u, spikes, mem;
};

// Of the input current, the membrane before the step and the thresholds; and what beta multiplied.
struct Gradients {
    V current, mem, threshold, previous, kept;
};

INLINE Moment advance(V x, V mem, const Now& now) {
    V reset{}, kept = mem;
    if constexpr (RESETS_LATE) {
        reset = spike(mem - now.previous);
        if constexpr (MECHANISM == ZERO) kept = (1 - reset) * mem;
    }
    V u = now.beta * kept + (HAS_SHIFT ? now.gain * x + now.shift : now.gain * x);
    if constexpr (RESETS_LATE && MECHANISM == SUBTRACT) {
        u = fires(mem - now.previous) ? u - now.previous : u;
    }
    V spikes = spike(u - now.threshold), after = u;
    if constexpr (RESETS_NOW) {
        V fired = RESETS_LATE ? spikes - reset : spikes;
        if constexpr (MECHANISM == SUBTRACT) after = u - fired * now.threshold;
        else after = RESETS_LATE ? u - fired * u : u * (1 - fired);
    }
    return {reset, u, spikes, after};
}

INLINE Gradients retreat(const Moment& at, V before, V grad_spikes, V grad_mem, const Now& now,
                         const Surrogate& surrogate) {
    V grad_u = grad_mem, grad_reset{}, grad_threshold{};
    if constexpr (RESETS_NOW) {
        V fired = RESETS_LATE ? at.spikes - at.reset : at.spikes, grad_now;
        if constexpr (MECHANISM == SUBTRACT) {
            grad_now = -now.threshold * grad_mem;
            grad_threshold = -fired * grad_mem;
        } else {
            grad_now = -at.u * grad_mem;
            grad_u = (1 - fired) * grad_mem;
        }
        if constexpr (!CUTS_CURRENT_RESET) grad_spikes = grad_spikes + grad_now;
        grad_reset = -grad_now;
    }
    V slope = surrogate(at.u - now.threshold);
    grad_u = fused(slope, grad_spikes, grad_u);
    grad_threshold = fused(-slope, grad_spikes, grad_threshold);
    V kept = before, grad_before = now.beta * grad_u, grad_previous{};
    if constexpr (RESETS_LATE) {
        if constexpr (MECHANISM == SUBTRACT) {
            grad_reset = grad_reset - now.previous * grad_u;
            grad_previous = -at.reset * grad_u;
        } else {
            grad_reset = grad_reset - now.beta * before * grad_u;
            kept = (1 - at.reset) * before;
            grad_before = (1 - at.reset) * grad_before;
        }
        if constexpr (!CUTS_PREVIOUS_RESET) {
            V grad_crossing = surrogate(before - now.previous) * grad_reset;
            grad_before = grad_before + grad_crossing;
            grad_previous = grad_previous - grad_crossing;
        }
    }
    return {grad_u, grad_before, grad_threshold, grad_previous, kept};
}

// Where one kind of coefficient lies: elements from a step to the next and from a coefficient to the next.
struct Source {
    const State* values;
    int64_t step, coefficient;
};

// The coefficients of one step, from coefficient c on: one for a whole tile, or one for each element. One that
// all elements share is kept as a vector of its own, that stays in the first cache.
template <bool PER_ELEMENT>
struct Step {
    const State* at[COEFFICIENTS];
    int64_t mask[COEFFICIENTS];
    Now shared;
    State copies[COEFFICIENTS][LANES];

    Step() = default;
    Step(const Step&) = delete;

    void set(const Source* all, int64_t t, int64_t c) {
        for (int which = 0; which < COEFFICIENTS; ++which) {
            const Source& source = all[which != SHIFT || HAS_SHIFT ? which : BETA];
            at[which] = source.values + t * source.step + c * source.coefficient;
            if (!PER_ELEMENT) continue;
            mask[which] = source.coefficient == 0 ? 0 : ~int64_t(0);
            if (mask[which]) continue;
            std::fill_n(copies[which], LANES, *at[which]);
            at[which] = copies[which];
        }
        if (!PER_ELEMENT) {
            shared = {splat(*at[BETA]),     splat(*at[GAIN]),  splat(*at[THRESHOLD]),
                      splat(*at[PREVIOUS]), splat(*at[SCALE]), splat(*at[SHIFT])};
        }
    }

    template <class At>
    INLINE V one(int which, At place) const {
        place.i &= mask[which];
        return load(at[which], place);
    }

    template <class At>
    INLINE Now operator()(At i) const {
        if constexpr (!PER_ELEMENT) return shared;
        return {one(BETA, i), one(GAIN, i), one(THRESHOLD, i), one(PREVIOUS, i), one(SCALE, i), one(SHIFT, i)};
    }
};

// Strides in elements; what is not listed is dense.
struct Shape {
    int64_t steps, outer, coefficients, inner;

    int64_t row() const { return coefficients * inner; }
    int64_t step() const { return outer * row(); }
};

struct Strides {
    int64_t step, outer;
};

// Tiles of one shape. Per element, a tile is a stretch of coefficients and goes through many rows.
template <bool PER_ELEMENT>
struct Tiling {
    int64_t length, per_row, rows_each, groups, count;

    Tiling(const Shape& shape, int64_t longest) {
        int64_t row = PER_ELEMENT ? shape.coefficients : shape.inner;
        length = ratio_up(row, ratio_up(row, longest));
        per_row = ratio_up(row, length);
        rows_each = 1;
        groups = PER_ELEMENT ? shape.outer : shape.outer * shape.coefficients;
        if (PER_ELEMENT) {
            int64_t enough = ROWS_IN_ONE_SUM + GROUP / (shape.steps * row) / ROWS_IN_ONE_SUM * ROWS_IN_ONE_SUM;
            rows_each = std::max(enough, ratio_up(shape.outer, MOST_GROUPS));
            groups = ratio_up(shape.outer, rows_each);
        }
        count = groups * per_row;
    }
};

struct Tile {
    int64_t outer, coefficient, inner, length;

    int64_t offset(const Shape& shape, const Strides& strides) const {
        return outer * strides.outer + coefficient * shape.inner + inner;
    }
    int64_t offset(const Shape& shape) const { return offset(shape, {0, shape.row()}); }
};

template <bool PER_ELEMENT>
Tile tile_at(const Tiling<PER_ELEMENT>& tiling, const Shape& shape, int64_t group, int64_t part,
             int64_t row) {
    int64_t start = part * tiling.length;
    if (PER_ELEMENT) {
        int64_t length = std::min(tiling.length, shape.coefficients - start);
        return {group * tiling.rows_each + row, start, 0, length};
    }
    return {group / shape.coefficients, group % shape.coefficients, start,
            std::min(tiling.length, shape.inner - start)};
}

template <bool PER_ELEMENT>
int64_t rows_of(const Tiling<PER_ELEMENT>& tiling, const Shape& shape, int64_t group) {
    return PER_ELEMENT ? std::min(tiling.rows_each, shape.outer - group * tiling.rows_each) : 1;
}

// What a tile starts from, part of a tensor or zeros, with zeros behind it: the last vector is always whole.
void begin(State* to, const State* from, int64_t offset, int64_t length) {
    std::fill_n(to, length + LANES, State(0));
    if (from) std::copy_n(from + offset, length, to);
}

template <bool PER_ELEMENT>
void forward(const Shape& shape, const Input* x, Strides x_strides, const State* start,
             const Source* coefficients, Input* spikes, State* last, State* trace, int threads) {
    Tiling<PER_ELEMENT> tiling(shape, FORWARD_TILE);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for
        for (int64_t item = 0; item < tiling.count; ++item) {
            int64_t group = item / tiling.per_row, part = item % tiling.per_row;
            alignas(64) State mem[FORWARD_TILE + LANES];
            for (int64_t row = 0; row < rows_of(tiling, shape, group); ++row) {
                Tile tile = tile_at(tiling, shape, group, part, row);
                int64_t n = tile.length, offset = tile.offset(shape);
                begin(mem, start, offset, n);
                const Input* first = x + tile.offset(shape, x_strides);
                const State* from = mem;
                for (int64_t t = 0; t < shape.steps; ++t) {
                    Step<PER_ELEMENT> step;
                    step.set(coefficients, t, tile.coefficient);
                    const Input* in = first + t * x_strides.step;
                    const Input* ahead = t + 1 < shape.steps ? in + x_strides.step : first + n;
                    Input* out = spikes + t * shape.step() + offset;
                    bool is_last = last && t + 1 == shape.steps;
                    State* to = trace ? trace + t * shape.step() + offset : is_last ? last + offset : mem;
                    bool past_cache = streams(out, shape.steps * shape.step());
                    for_each_vector(n, [&](auto at) INLINE_BODY {
                        fetch(ahead, at.i);
                        Now now = step(at);
                        Moment moment = advance(load(in, at), load(from, at), now);
                        write(out, at, moment.spikes * now.scale, past_cache);
                        store(to, at, moment.mem);
                    });
                    from = to;
                }
            }
        }
        finish_writing();
    }
}

// Gradients of what the forward pass returned; those that are absent are null.
struct Gradient {
    const Input* spikes;
    Strides strides;
    const State *last, *trace;
};

// What the backward pass of one tile needs beside the tensors: memory that stays in the cache.
template <bool PER_ELEMENT>
struct Scratch {
    int64_t steps, length;
    std::unique_ptr<State[]> states, carry, sums;
    std::unique_ptr<Input[]> no_gradient;

    Scratch(int64_t steps, int64_t longest)
        : steps(steps), length(ratio_up(longest, LANES) * LANES + PADDING),
          states(new State[steps * length]()),
          carry(new State[length]()), sums(new State[PER_ELEMENT ? COUNT_WANTED * steps * length : 0]()),
          no_gradient(new Input[length]()) {}

    State* state(int64_t t) { return states.get() + t * length; }

    State* sum(int which, int64_t t) { return sums.get() + (slot(which) * steps + t) * length; }
};

// What the gradient of each wanted coefficient at each step is made of: [wanted, T, groups, row], a row being
// all coefficients of a step (per element) or one number for each tile.
template <bool PER_ELEMENT>
struct Partial {
    double* values;
    int64_t steps, groups, row;

    Partial(double* values, const Shape& shape, const Tiling<PER_ELEMENT>& tiling)
        : values(values), steps(shape.steps), groups(tiling.groups),
          row(PER_ELEMENT ? shape.coefficients : tiling.per_row) {}

    double* at(int which, int64_t t, int64_t group) const {
        return values + ((slot(which) * steps + t) * groups + group) * row;
    }

    // Adds up what belongs to each coefficient of one kind at one step; `index` counts both.
    void join(int64_t index, int64_t coefficients, State* grads) const {
        const double* from = values + index * groups * row;
        std::unique_ptr<double[]> sums(new double[coefficients]());
        for (int64_t group = 0; group < groups; ++group, from += row) {
            for (int64_t i = 0; i < row; ++i) sums[PER_ELEMENT ? i : group % coefficients] += from[i];
        }
        for (int64_t c = 0; c < coefficients; ++c) grads[index * coefficients + c] = State(sums[c]);
    }
};

int64_t backward_tile(const Shape& shape) {
    return std::clamp(CACHED_STATES / shape.steps, SHORTEST_TILE, BACKWARD_TILE);
}

// Calls `function(t, size)` for blocks of BLOCK steps, then for the single steps that are left over.
template <class Function>
INLINE void for_each_block(int64_t steps, Function function) {
    int64_t t = 0;
    for (; t + BLOCK <= steps; t += BLOCK) function(t, std::integral_constant<int64_t, BLOCK>{});
    for (; t < steps; ++t) function(t, std::integral_constant<int64_t, 1>{});
}

// The same from the last step to the first.
template <class Function>
INLINE void for_each_block_back(int64_t steps, Function function) {
    int64_t t = steps;
    for (; t % BLOCK != 0; --t) function(t - 1, std::integral_constant<int64_t, 1>{});
    for (; t > 0; t -= BLOCK) function(t - BLOCK, std::integral_constant<int64_t, BLOCK>{});
}

// The backward pass of one tile at a time, in the scratch memory of one thread.
template <bool PER_ELEMENT>
struct Backward {
    const Shape& shape;
    const Input* x;
    Strides x_strides;
    const State* start;
    const Source* coefficients;
    const Gradient& grad;
    Surrogate surrogate;
    Input* grad_x;
    State* grad_start;
    Partial<PER_ELEMENT> partial;
    Scratch<PER_ELEMENT> scratch;

    const Input* input(const Tile& tile, int64_t t) const {
        return x + t * x_strides.step + tile.offset(shape, x_strides);
    }

    const Input* grad_spikes(const Tile& tile, int64_t t) const {
        if (!grad.spikes) return scratch.no_gradient.get();
        return grad.spikes + t * grad.strides.step + tile.offset(shape, grad.strides);
    }

    int64_t grad_step() const { return grad.spikes ? grad.strides.step : 0; }

    // The state before every block of steps, from the input alone.
    template <int64_t STEPS>
    void recompute(const Tile& tile, int64_t t) {
        Step<PER_ELEMENT> step[STEPS];
        for (int64_t s = 0; s < STEPS; ++s) step[s].set(coefficients, t + s, tile.coefficient);
        const Input* in = input(tile, t);
        bool is_last = t + 2 * STEPS >= shape.steps;  // the block after it is where the way back begins
        const Input* ahead = is_last ? grad_spikes(tile, t + STEPS) : in;
        const State* from = scratch.state(t);
        State* to = scratch.state(t + STEPS);
        for_each_vector(tile.length, [&](auto at) INLINE_BODY {
            V state = load(from, Whole{at.i});
#pragma GCC unroll 4
            for (int64_t s = 0; s < STEPS; ++s) {
                if (is_last && t + STEPS + s < shape.steps) fetch(ahead + s * grad_step(), at.i);
                state = advance(load(in + s * x_strides.step, at), state, step[s](at)).mem;
            }
            store(to, Whole{at.i}, state);
        });
    }

    // Back through a block. The scratch's carry holds the gradient of the membrane after it, then before it.
    template <int64_t STEPS>
    void retreat_block(const Tile& tile, int64_t t, int64_t group, int64_t part) {
        Step<PER_ELEMENT> step[STEPS];
        for (int64_t s = 0; s < STEPS; ++s) step[s].set(coefficients, t + s, tile.coefficient);
        int64_t place = t * shape.step() + tile.offset(shape), pitch = shape.step();
        const Input *in = input(tile, t), *grad_out = grad_spikes(tile, t);
        int64_t out_pitch = grad_step();
        // What comes next: the gradients of the block before, and the input of the next tile, most often the
        // one behind this one. Where this is the first block, its gradients too.
        int64_t to_next = PER_ELEMENT ? x_strides.outer : tile.length;
        const Input* ahead = t >= STEPS ? grad_spikes(tile, t - STEPS) : grad_out + to_next;
        const Input* next = in + to_next;
        const State *before = scratch.state(t), *trace = grad.trace ? grad.trace + place : nullptr;
        State* carry = scratch.carry.get();
        Input* grad_in = grad_x + place;
        bool past_cache = streams(grad_in, shape.steps * pitch) && pitch % LANES == 0;
        const Surrogate slope = surrogate;  // a copy that no store can reach, so that it stays in registers
        V added[STEPS][COEFFICIENTS] = {};
        for_each_vector(tile.length, [&](auto at) INLINE_BODY {
            Whole here{at.i};
            V state[STEPS + 1], inputs[STEPS];
            Moment moments[STEPS];
            state[0] = load(before, here);
#pragma GCC unroll 4
            for (int64_t s = 0; s < STEPS; ++s) {
                inputs[s] = load(in + s * x_strides.step, at);
                moments[s] = advance(inputs[s], state[s], step[s](at));
                state[s + 1] = moments[s].mem;
            }
            V grad_mem = load(carry, here);
#pragma GCC unroll 4
            for (int64_t s = STEPS - 1; s >= 0; --s) {
                fetch(ahead + s * out_pitch, at.i);
                fetch(next + s * x_strides.step, at.i);
                Now now = step[s](at);
                V grad_fired = load(grad_out + s * out_pitch, at);
                if (trace) grad_mem += load(trace + s * pitch, at);
                Gradients back =
                    retreat(moments[s], state[s], grad_fired * now.scale, grad_mem, now, slope);
                grad_mem = back.mem;
                write(grad_in + s * pitch, at, now.gain * back.current, past_cache);
                const V products[COEFFICIENTS][2] = {
                    {back.kept, back.current},   {inputs[s], back.current},        {back.threshold, splat(1)},
                    {back.previous, splat(1)},   {grad_fired, moments[s].spikes},  {back.current, splat(1)}};
                for (int which = 0; which < COEFFICIENTS; ++which) {
                    if (!wants(which)) continue;
                    const V* of = products[which];
                    State* sum = PER_ELEMENT ? scratch.sum(which, t + s) : nullptr;
                    if (PER_ELEMENT) store(sum, here, fused(of[0], of[1], load(sum, here)));
                    else added[s][which] = fused(of[0], of[1], added[s][which]);
                }
            }
            store(carry, here, grad_mem);
        });
        for (int64_t s = 0; !PER_ELEMENT && s < STEPS; ++s) {
            for (int which = 0; which < COEFFICIENTS; ++which) {
                if (wants(which)) partial.at(which, t + s, group)[part] = double(total(added[s][which]));
            }
        }
    }

    // Moves the sums of a stretch of coefficients over several rows to where they are kept in double.
    void flush(const Tile& tile, int64_t group) {
        for (int which = 0; which < COEFFICIENTS; ++which) {
            for (int64_t t = 0; wants(which) && t < shape.steps; ++t) {
                double* to = partial.at(which, t, group) + tile.coefficient;
                State* from = scratch.sum(which, t);
                for (int64_t i = 0; i < tile.length; ++i) to[i] += double(from[i]);
                std::fill_n(from, tile.length, State(0));
            }
        }
    }

    void run(const Tile& tile, int64_t group, int64_t part) {
        State* carry = scratch.carry.get();
        begin(scratch.state(0), start, tile.offset(shape), tile.length);
        for_each_block(shape.steps, [&](int64_t t, auto size) {
            if (t + size() < shape.steps) recompute<size()>(tile, t);
        });
        begin(carry, grad.last, tile.offset(shape), tile.length);
        for_each_block_back(shape.steps, [&](int64_t t, auto size) {
            retreat_block<size()>(tile, t, group, part);
        });
        if (grad_start) std::copy_n(carry, tile.length, grad_start + tile.offset(shape));
    }
};

template <bool PER_ELEMENT>
void backward(const Shape& shape, const Input* x, Strides x_strides, const State* start,
              const Source* coefficients, const Gradient& grad, State surrogate_shape, Input* grad_x,
              State* grad_start, double* partial, State* grads, int threads) {
    Tiling<PER_ELEMENT> tiling(shape, backward_tile(shape));
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Backward<PER_ELEMENT> thread{shape, x, x_strides, start, coefficients, grad, Surrogate(surrogate_shape),
                                     grad_x, grad_start, {partial, shape, tiling},
                                     {shape.steps, tiling.length}};
#pragma omp for
        for (int64_t item = 0; item < tiling.count; ++item) {
            int64_t group = item / tiling.per_row, part = item % tiling.per_row;
            int64_t rows = rows_of(tiling, shape, group);
            for (int64_t row = 0; row < rows; ++row) {
                Tile tile = tile_at(tiling, shape, group, part, row);
                thread.run(tile, group, part);
                bool is_due = (row + 1) % ROWS_IN_ONE_SUM == 0 || row + 1 == rows;
                if (PER_ELEMENT && is_due) thread.flush(tile, group);
            }
        }
        finish_writing();
#pragma omp for
        for (int64_t index = 0; index < COUNT_WANTED * shape.steps; ++index) {
            thread.partial.join(index, shape.coefficients, grads);
        }
    }
}

// One coefficient for a whole stretch of memory, or so short stretches that each element gets its own.
bool per_element(const Shape& shape) { return shape.inner == 1 && shape.coefficients > 1; }

template <bool PER_ELEMENT>
void partial_size(const Shape& shape, int64_t* size) {
    Tiling<PER_ELEMENT> tiling(shape, backward_tile(shape));
    size[0] = tiling.groups;
    size[1] = PER_ELEMENT ? shape.coefficients : tiling.per_row;
}

// As they come from outside: pointers, and the two strides of each.
struct Sources {
    Source all[COEFFICIENTS];

    Sources(const void* const* pointers, const int64_t* strides) {
        for (int which = 0; which < COEFFICIENTS; ++which) {
            const State* values = static_cast<const State*>(pointers[which]);
            all[which] = {values, strides[2 * which], strides[2 * which + 1]};
        }
    }
};

}  // namespace

#ifndef BACKWARD

extern "C" void adaptive_leaky_forward(const int64_t* sizes, const int64_t* x_strides, const void* x,
                                       const void* start, const void* const* coefficients,
                                       const int64_t* coefficient_strides, void* spikes, void* last,
                                       void* trace, int threads) {
    Shape shape{sizes[0], sizes[1], sizes[2], sizes[3]};
    auto run = per_element(shape) ? forward<true> : forward<false>;
    run(shape, static_cast<const Input*>(x), {x_strides[0], x_strides[1]}, static_cast<const State*>(start),
        Sources(coefficients, coefficient_strides).all, static_cast<Input*>(spikes),
        static_cast<State*>(last), static_cast<State*>(trace), threads);
}

#else

extern "C" void adaptive_leaky_partial_size(const int64_t* sizes, int64_t* size) {
    Shape shape{sizes[0], sizes[1], sizes[2], sizes[3]};
    per_element(shape) ? partial_size<true>(shape, size) : partial_size<false>(shape, size);
}

extern "C" void adaptive_leaky_backward(const int64_t* sizes, const int64_t* x_strides, const void* x,
                                        const void* start, const void* const* coefficients,
                                        const int64_t* coefficient_strides, const int64_t* grad_strides,
                                        const void* grad_spikes, const void* grad_last,
                                        const void* grad_trace, double surrogate_shape, void* grad_x,
                                        void* grad_start, double* partial, void* grads, int threads) {
    Shape shape{sizes[0], sizes[1], sizes[2], sizes[3]};
    auto run = per_element(shape) ? backward<true> : backward<false>;
    Gradient grad{static_cast<const Input*>(grad_spikes), {grad_strides[0], grad_strides[1]},
                  static_cast<const State*>(grad_last), static_cast<const State*>(grad_trace)};
    run(shape, static_cast<const Input*>(x), {x_strides[0], x_strides[1]}, static_cast<const State*>(start),
        Sources(coefficients, coefficient_strides).all, grad, State(surrogate_shape),
        static_cast<Input*>(grad_x), static_cast<State*>(grad_start), partial, static_cast<State*>(grads),
        threads);
}

#endif
