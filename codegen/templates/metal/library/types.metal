// 0 or 1
typedef uchar bool8_t;

inline float half_to_float(half x) { return float(x); }

inline half float_to_half(float x) { return half(x); }

inline float bfloat_to_float(bfloat x) { return float(x); }

inline bfloat float_to_bfloat(float x) { return bfloat(x); }
