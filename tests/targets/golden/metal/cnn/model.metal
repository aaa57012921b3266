// cnn: the kernels of the model. plan.json tells in which order, on which buffers and with how many threads.
//
// Numbers of a kernel come in a struct, which is the buffer behind its tensors. Compile without fast maths: kernels
// tell NaN and infinities from other numbers.

#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;

// ---- kernels ---------------------------------------------------------------------------------------------------

struct convert_strided_half_cf4acb_sizes { uint n0; uint n1; uint p0_1; uint p1_0; };

// y0 = f(x0), element by element; p0_1 is the distance along axis 1 of all that is reached by p0, and so on.
[[max_total_threads_per_threadgroup(256)]]
kernel void convert_strided_half_cf4acb(device const float *x0 [[buffer(0)]],
                                        device half *y0 [[buffer(1)]],
                                        constant convert_strided_half_cf4acb_sizes &s [[buffer(2)]],
                                        uint3 at [[thread_position_in_grid]])
{
    const uint i = at.x, row = at.y;
    if (i >= s.n1 || row >= s.n0)
        return;
    const uint i0 = row;
    const uint p0 = i0 + i * s.p0_1;
    const uint p1 = i0 * s.p1_0 + i;
    const float e0 = x0[p0];
    const half t0 = half(e0);
    y0[p1] = t0;
}

struct conv_3_3x3_s2_p1_border_32x32_odd_bias_half_relu_sizes {
    uint m; uint n; uint height; uint width; uint out_height; uint out_width;
};

// A 3x3 convolution as a product: rows are pixels of the result, columns are filters, 32 x 32 a threadgroup.
// w lies in panels of 32 filters, padded with zeros to a multiple of 32 rows.
[[max_total_threads_per_threadgroup(32)]]
kernel void conv_3_3x3_s2_p1_border_32x32_odd_bias_half_relu(device const half *x [[buffer(0)]],
                                                             device const half *w [[buffer(1)]],
                                                             device const float *b [[buffer(2)]],
                                                             device half *y [[buffer(3)]],
                                                             constant conv_3_3x3_s2_p1_border_32x32_odd_bias_half_relu_sizes &s [[buffer(4)]],
                                                             threadgroup half *x_tile [[threadgroup(0)]],
                                                             threadgroup float *strips [[threadgroup(1)]],
                                                             uint3 group [[threadgroup_position_in_grid]],
                                                             uint index [[thread_index_in_threadgroup]],
                                                             uint lane [[thread_index_in_simdgroup]],
                                                             uint simdgroup [[simdgroup_index_in_threadgroup]])
{
    // Where the tile begins, and in it the block of this simdgroup
    const uint row = group.y * 32, column = group.x * 32;
    const uint down = simdgroup * 32, across = 0;

    // What this thread copies of x: 1 element at column c of each 1st row
    const uint x_row = index / 32, c = index % 32;
    threadgroup half *x_to = x_tile + x_row * 40 + c;
    int from[32]; // the first element of each window, were there no border
    uint inside[32]; // bit t: line t of the window is in the image; bit 16 + t: column t is
    for (uint i = 0; i < 32; i++) {
        const uint pixel = min(row + x_row + 1 * i, s.m - 1); // what is below the last row is not stored
        const uint image = pixel / (s.out_width * s.out_height);
        const int top = int(pixel / s.out_width % s.out_height * 2) - 1;
        const int left = int(pixel % s.out_width * 2) - 1;
        const int origin = (int(image * s.height) + top) * int(s.width) + left;
        from[i] = origin * int(3);
        inside[i] = 0;
        for (uint t = 0; t < 3; t++)
            inside[i] |= uint(uint(top + int(t)) < s.height) << t;
        for (uint t = 0; t < 3; t++)
            inside[i] |= uint(uint(left + int(t)) < s.width) << (16 + t);
    }
    // What this simdgroup loads of w, whose panels lie as they are read
    device const half *w_from = w + group.x * 1024 + across;

    threadgroup const half *a_tile = x_tile + down * 40;
    simdgroup_float8x8 sums[4][4];
    for (uint i = 0; i < 4; i++)
        for (uint j = 0; j < 4; j++)
            sums[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    for (uint at = 0; at < 27; at += 32) {
        const uint tap = (at + c) / 3, ky = tap / 3, kx = tap % 3;
        const int shift = int((ky * s.width + kx) * 3 + (at + c) % 3);
        const uint both = tap < 9 ? 1u << ky | 65536u << kx : ~0u;
        device const half *x_at = x + shift;
        for (uint i = 0; i < 32; i++)
            *(x_to + 40 * i) =
                (inside[i] & both) == both ? *(x_at + from[i]) : half(0);

        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint d = 0; d < 32; d += 8) {
            simdgroup_half8x8 a[4], b[4];
            for (uint i = 0; i < 4; i++)
                simdgroup_load(a[i], a_tile + 320 * i + d, 40);
            for (uint j = 0; j < 4; j++)
                simdgroup_load(b[j], w_from + 32 * d + 8 * j, 32);
            for (uint i = 0; i < 4; i++)
                for (uint j = 0; j < 4; j++)
                    simdgroup_multiply_accumulate(sums[i][j], a[i], b[j], sums[i][j]);
        }
        w_from += 1024;
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }

    // The sums come out 8 rows at a time, of which each lane ends and stores a column.
    threadgroup float *strip = strips + simdgroup * 256;
    const uint j = column + across + lane;
    const float bias = j < s.n ? b[j] : 0.0f;
    #pragma unroll
    for (uint i = 0; i < 4; i++) {
        for (uint q = 0; q < 4; q++)
            simdgroup_store(sums[i][q], strip + 8 * q, 32);
        simdgroup_barrier(mem_flags::mem_threadgroup);
        const uint first = row + down + 8 * i;
        for (uint h = 0; h < 8 && first + h < s.m && j < s.n; h++) {
            const float sum = strip[32 * h + lane] + bias;
            const uint at = (first + h) * s.n + j;
            const float t0 = (sum > 0.0f || sum != sum ? sum : 0.0f);
            y[at] = half(t0);
        }
        simdgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct winograd_3x3_half_add_max_e172c9_sizes {
    uint images; uint height; uint width; uint channels; uint filters; uint out_height; uint out_width; uint top;
    uint left;
};

// 3x3 filters by Winograd's F(2x2, 3x3): 16 tiles of 2x2 results for 32 filters in each threadgroup, 8 channels a step.
[[max_total_threads_per_threadgroup(128)]]
kernel void winograd_3x3_half_add_max_e172c9(device const half *x [[buffer(0)]],
                                             device const half *w [[buffer(1)]],
                                             device const float *b [[buffer(2)]],
                                             device const half *r [[buffer(3)]],
                                             device half *y [[buffer(4)]],
                                             constant winograd_3x3_half_add_max_e172c9_sizes &s [[buffer(5)]],
                                             threadgroup half *patches [[threadgroup(0)]],
                                             threadgroup float *products [[threadgroup(1)]],
                                             uint3 group [[threadgroup_position_in_grid]],
                                             uint index [[thread_index_in_threadgroup]],
                                             uint simdgroup [[simdgroup_index_in_threadgroup]])
{
    const uint across = (s.out_width + 1) / 2, down = (s.out_height + 1) / 2;
    const uint room = (s.channels + 7) / 8 * 8, columns = (s.filters + 31) / 32 * 32;
    const uint tile = group.x * 16 + index / 8, channel = index % 8, first = group.y * 32;
    const uint image = tile / (down * across), row = tile % (down * across) / across * 2, column = tile % across * 2;
    const int top = int(row) - int(s.top), left = int(column) - int(s.left);
    const bool is_tile = image < s.images;

    simdgroup_float8x8 sums[4][2][4]; // [place][8 tiles][8 filters]
    for (uint q = 0; q < 4; q++)
        for (uint h = 0; h < 2; h++)
            for (uint f = 0; f < 4; f++)
                sums[q][h][f] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);

    for (uint c = 0; c < room; c += 8) {
        // A patch of one channel, with B^T from both sides.
        float p[4][4];
        for (int i = 0; i < 4; i++) {
            for (int j = 0; j < 4; j++) {
                const bool is_inside = is_tile && c + channel < s.channels && top + i >= 0 && top + i < int(s.height) &&
                                       left + j >= 0 && left + j < int(s.width);
                const uint at = ((image * s.height + uint(top + i)) * s.width + uint(left + j)) * s.channels + c +
                    channel;
                p[i][j] = is_inside ? float(x[at]) * 0.25f : 0.0f;
            }
        }
        for (uint j = 0; j < 4; j++) {
            const float a = p[0][j] - p[2][j], e = p[1][j] + p[2][j], f = p[2][j] - p[1][j], g = p[1][j] - p[3][j];
            p[0][j] = a, p[1][j] = e, p[2][j] = f, p[3][j] = g;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup); // the patches before are multiplied
        for (uint i = 0; i < 4; i++) {
            threadgroup half *to = patches + i * 4 * 128 + index;
            to[0] = half(p[i][0] - p[i][2]);
            to[128] = half(p[i][1] + p[i][2]);
            to[256] = half(p[i][2] - p[i][1]);
            to[384] = half(p[i][1] - p[i][3]);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);

        #pragma unroll
        for (uint q = 0; q < 4; q++) {
            const uint place = simdgroup * 4 + q;
            simdgroup_half8x8 a0, a1, b;
            simdgroup_load(a0, patches + place * 128, 8);
            simdgroup_load(a1, patches + place * 128 + 64, 8);
            for (uint f = 0; f < 4; f++) {
                simdgroup_load(b, w + (place * room + c) * columns + first + f * 8, columns);
                simdgroup_multiply_accumulate(sums[q][0][f], a0, b, sums[q][0][f]);
                simdgroup_multiply_accumulate(sums[q][1][f], a1, b, sums[q][1][f]);
            }
        }
    }

    // Sums stay in registers only if no loop over them is left.
    #pragma unroll
    for (uint f = 0; f < 4; f++) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint q = 0; q < 4; q++)
            for (uint h = 0; h < 2; h++)
                simdgroup_store(sums[q][h][f], products + (simdgroup * 4 + q) * 128 + h * 64, 8);
        threadgroup_barrier(mem_flags::mem_threadgroup);

        const uint filter = first + f * 8 + channel;
        if (!is_tile || filter >= s.filters)
            continue;
        float t[2][4]; // A^T from the left, then from the right
        for (uint j = 0; j < 4; j++) {
            threadgroup const float *m = products + j * 128 + index;
            t[0][j] = m[0] + m[512] + m[1024];
            t[1][j] = m[512] - m[1024] - m[1536];
        }
        for (uint i = 0; i < 2 && row + i < s.out_height; i++) {
            const float results[2] = {t[i][0] + t[i][1] + t[i][2], t[i][1] - t[i][2] - t[i][3]};
            for (uint j = 0; j < 2 && column + j < s.out_width; j++) {
                const uint at = ((image * s.out_height + row + i) * s.out_width + column + j) * s.filters + filter;
                const float result = results[j] + b[filter];
                const float t0 = result + float(r[at]);
                const float t1 = (t0 > 0.0f || t0 != t0 ? t0 : 0.0f);
                y[at] = half(t1);
            }
        }
    }
}

struct depthwise_3x3_half_sizes {
    uint images; uint height; uint width; uint channels; uint out_height; uint out_width; uint top; uint left;
};

// 3x3 filters, one for each channel; a thread computes 4 results of a line.
[[max_total_threads_per_threadgroup(256)]]
kernel void depthwise_3x3_half(device const half *x [[buffer(0)]],
                               device const half *w [[buffer(1)]],
                               device const float *b [[buffer(2)]],
                               device half *y [[buffer(3)]],
                               constant depthwise_3x3_half_sizes &s [[buffer(4)]],
                               uint3 at [[thread_position_in_grid]])
{
    const uint strips = (s.out_width + 3) / 4, lines = s.images * s.out_height;
    const uint c = at.x, line = at.y / strips, first = at.y % strips * 4;
    if (c >= s.channels || line >= lines)
        return;
    const uint image = line / s.out_height, row = line % s.out_height;
    const int top = int(row * 1) - int(s.top), left = int(first * 1) - int(s.left);
    float sums[4];
    for (uint j = 0; j < 4; j++)
        sums[j] = b[c];
    for (uint i = 0; i < 3; i++) {
        const int from = top + int(i);
        if (from < 0 || from >= int(s.height))
            continue;
        device const half *p = x + (image * s.height + uint(from)) * s.width * s.channels + c;
        float e[6];
        for (int j = 0; j < 6; j++) {
            const bool is_inside = left + j >= 0 && left + j < int(s.width);
            e[j] = is_inside ? float(p[uint(left + j) * s.channels]) : 0.0f;
        }
        for (uint t = 0; t < 3; t++) {
            const float tap = float(w[(i * 3 + t) * s.channels + c]);
            for (uint j = 0; j < 4; j++)
                sums[j] = fma(e[j + t], tap, sums[j]);
        }
    }
    // Sums stay in registers only if no loop over them is left.
    #pragma unroll
    for (uint j = 0; j < 4; j++) {
        if (first + j >= s.out_width)
            continue;
        const uint place = (line * s.out_width + first + j) * s.channels + c;
        y[place] = half(sums[j]);
    }
}

struct average_pool_half_sizes {
    uint images; uint height; uint width; uint channels; uint out_height; uint out_width; uint rows; uint columns;
    uint stride_y; uint stride_x; uint dilation_y; uint dilation_x; uint top; uint left;
};

// Windows of rows x columns; elements of the border are left out.
[[max_total_threads_per_threadgroup(256)]]
kernel void average_pool_half(device const half *x [[buffer(0)]],
                              device half *y [[buffer(1)]],
                              constant average_pool_half_sizes &s [[buffer(2)]],
                              uint3 at [[thread_position_in_grid]])
{
    if (at.x >= s.channels || at.y >= s.images * s.out_height * s.out_width)
        return;
    const uint j = at.y % s.out_width, i = at.y / s.out_width % s.out_height, image = at.y / s.out_width / s.out_height;
    float a = 0.0f;
    uint count = 0;
    for (uint row = 0; row < s.rows; row++) {
        const uint from = i * s.stride_y + row * s.dilation_y - s.top;  // before the first it is huge
        if (from >= s.height)
            continue;
        for (uint column = 0; column < s.columns; column++) {
            const uint left = j * s.stride_x + column * s.dilation_x - s.left;
            if (left >= s.width)
                continue;
            count++;
            const float e = float(x[((image * s.height + from) * s.width + left) * s.channels + at.x]);
            a += e;
        }
    }
    a /= float(count);
    const uint place = at.y * s.channels + at.x;
    y[place] = half(a);
}

struct gemv_1_half_sizes { uint n; uint k; };

// y = (x w) for 1 row of x: a simdgroup computes 4 columns, each lane a part of the depth.
[[max_total_threads_per_threadgroup(128)]]
kernel void gemv_1_half(device const half *x [[buffer(0)]],
                        device const half *w [[buffer(1)]],
                        device half *y [[buffer(2)]],
                        constant gemv_1_half_sizes &s [[buffer(3)]],
                        uint3 group [[threadgroup_position_in_grid]],
                        uint lane [[thread_index_in_simdgroup]],
                        uint simdgroup [[simdgroup_index_in_threadgroup]])
{
    const uint j = (group.x * 4 + simdgroup) * 4;
    if (j >= s.n)
        return;
    const uint pitch = (s.k + 3) / 4 * 4; // from a column of w to the next
    device const half *from = w + j * pitch;
    float4 sums[1][4];
    for (uint i = 0; i < 1; i++)
        for (uint q = 0; q < 4; q++)
            sums[i][q] = float4(0.0f);
    for (uint at = 4 * lane; at < s.k; at += 128) {
        float4 e[1];
        for (uint i = 0; i < 1; i++)
            e[i] = float4(*(device const half4 *)(x + at));
        for (uint q = 0; q < 4; q++) {
            const float4 v = float4(*(device const half4 *)(from + q * pitch + at));
            for (uint i = 0; i < 1; i++)
                sums[i][q] = fma(e[i], v, sums[i][q]);
        }
    }
    #pragma unroll
    for (uint i = 0; i < 1; i++)
        for (uint q = 0; q < 4; q++) {
            const float4 parts = sums[i][q];
            const float whole = simd_sum(parts.x + parts.y + parts.z + parts.w);
            if (lane == 0 && j + q < s.n) {
                const uint at = i * s.n + j + q;
                const float sum = whole;
                y[at] = half(sum);
            }
        }
}

struct softmax_rows_half_sizes { uint rows; uint n; };

// e^x / sum(e^x) along rows, a simdgroup for each. The largest element is taken from all before.
[[max_total_threads_per_threadgroup(256)]]
kernel void softmax_rows_half(device const half *x [[buffer(0)]],
                              device half *y [[buffer(1)]],
                              constant softmax_rows_half_sizes &s [[buffer(2)]],
                              uint3 at [[thread_position_in_grid]])
{
    const uint row = at.x / 32, lane = at.x % 32;
    if (row >= s.rows)
        return;
    device const half *from = x + row * s.n;
    float top = -INFINITY;
    for (uint i = lane; i < s.n; i += 32)
        top = max(top, float(from[i]));
    top = simd_max(top);
    float sum = 0.0f;
    for (uint i = lane; i < s.n; i += 32)
        sum += exp(float(from[i]) - top);
    sum = simd_sum(sum);
    for (uint i = lane; i < s.n; i += 32)
        y[row * s.n + i] = half(exp(float(from[i]) - top) / sum);
}

struct convert_float_415915_sizes { uint n0; };

// y = f(x0), element by element.
[[max_total_threads_per_threadgroup(256)]]
kernel void convert_float_415915(device const half *x0 [[buffer(0)]],
                                 device float *y [[buffer(1)]],
                                 constant convert_float_415915_sizes &s [[buffer(2)]],
                                 uint3 at [[thread_position_in_grid]])
{
    const uint i = at.x;
    if (i >= s.n0)
        return;
    const half e0 = x0[i];
    const float t0 = float(e0);
    y[i] = t0;
}
