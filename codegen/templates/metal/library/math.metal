// Functions that the language lacks. Errors are in units in the last place (ulp), over all floats.

// The error function; 5 ulp. A quotient of polynomials of x^2 up to 3.925, from where on it is 1.
inline float erf_float(float x)
{
    const float square = x * x;
    float p = fma(2.04598791e-6f, square, 2.84837239e-4f);
    p = fma(p, square, 3.77245247e-3f);
    p = fma(p, square, 5.27689904e-2f);
    p = fma(p, square, 0.190592036f);
    p = fma(p, square, 1.12837911f);
    float q = fma(3.80470337e-5f, square, 1.16382632e-3f);
    q = fma(q, square, 1.4983009e-2f);
    q = fma(q, square, 0.114181936f);
    q = fma(q, square, 0.502240539f);
    q = fma(q, square, 1.0f);
    const float y = fabs(x) >= 3.925f ? 1.0f : min(fabs(x) * p / q, 1.0f);
    return x != x ? x : copysign(y, x);
}

// log(1 + x); 3 ulp. What 1 + x loses is made good to first order.
inline float log1p_float(float x)
{
    const float u = 1.0f + x;
    return u > 0.0f && u < INFINITY ? log(u) + (x - (u - 1.0f)) / u : log(u);
}

// e^x - 1; 2 ulp. x = n log(2) + r, with a polynomial of r (W. J. Cody, W. Waite, Software Manual for the Elementary
// Functions, 1980).
inline float expm1_float(float x)
{
    if (!(x > -18.0f && x < 18.0f))
        return exp(x) - 1.0f;
    const float n = rint(x * 1.44269504f);
    const float r = fma(n, 2.12194440e-4f, fma(n, -0.693359375f, x));
    float q = fma(1.39504892e-3f, r, 8.3688898e-3f);
    q = fma(q, r, 4.1666206e-2f);
    q = fma(q, r, 0.166665182f);
    q = fma(q, r, 0.5f);
    const float core = fma(q, r * r, r), scale = ldexp(1.0f, int(n));
    return fma(core, scale, scale - 1.0f);
}

inline float sigmoid_float(float x)
{
    const float power = exp(-fabs(x));
    return (x >= 0.0f ? 1.0f : power) / (1.0f + power);
}

// What is left of a / b, with the sign of b.
inline float floored_rest_real(float a, float b)
{
    const float rest = fmod(a, b);
    if (rest == 0.0f)
        return copysign(0.0f, b);
    return (rest < 0.0f) != (b < 0.0f) ? rest + b : rest;
}
