// An index of `length` elements: a negative one counts from the end; beyond the ends it is the nearest.
inline uint element_at(long index, uint length)
{
    const long end = length, at = index < 0 ? index + end : index;
    return at <= 0 ? 0u : uint(at < end ? at : end - 1);
}

// The nearest of 0 ... length - 1.
inline int clamped(int at, int length) { return clamp(at, 0, length - 1); }

// From one end again.
inline int wrapped(int at, int length)
{
    const int rest = at % length;
    return rest < 0 ? rest + length : rest;
}

// Mirrored at the first and at the last, as often as needed.
inline int mirrored(int at, int length)
{
    if (length == 1)
        return 0;
    const int rest = wrapped(at, 2 * (length - 1));
    return rest < length ? rest : 2 * (length - 1) - rest;
}
