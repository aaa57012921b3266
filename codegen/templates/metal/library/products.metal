// Four neighbours, those from `count` on 0 and not read.
template <typename T> inline float4 up_to_4(device const T *x, int count)
{
    return float4(count > 0 ? float(x[0]) : 0.0f, count > 1 ? float(x[1]) : 0.0f, count > 2 ? float(x[2]) : 0.0f,
                  count > 3 ? float(x[3]) : 0.0f);
}
