"""Triton kernels of the softmax part: figures of each row in one pass over both models' logits, gradient in another.

A program works on one row. Logits are made from the products of hidden states and head in registers: bias, scale, soft
cap. Sums are online: each softmax has a running largest logit, and what was summed before is rescaled when it rises.
Expectations are taken of logits minus that largest one, so that an offset of a whole row costs no digits. A token of
probability 0 adds 0 by selection, never as 0 * -inf.

Names: s student, t teacher, m their mixture (1 - t) s + t t, x the target: m, or the teacher.
"""

import triton
import triton.language as tl

LOWEST = tl.constexpr(-3.0e38)
TINY = tl.constexpr(1.1754944e-38)

# Divergences by number, for the compiler removes all branches but one.
NONE, KL, RKL, TVD, JSD, SFKL, SRKL, AB, TODI, DISTILLM2 = (tl.constexpr(number) for number in range(10))


@triton.jit
def _logits(product, bias, columns, inside, scale, softcap, HAS_BIAS: tl.constexpr, HAS_CAP: tl.constexpr):
    """Logits at ``columns`` of a row; -inf outside."""
    z = tl.load(product + columns, mask=inside, other=0.0).to(tl.float32)
    if HAS_BIAS:
        z += tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)
    z *= scale
    if HAS_CAP:
        z = softcap * (2.0 * tl.sigmoid(2.0 * z / softcap) - 1.0)
    return tl.where(inside, z, -float("inf"))


@triton.jit
def _weighted(e, values):
    return tl.sum(tl.where(e == 0.0, 0.0, e * values), axis=0)


@triton.jit
def _risen(total, rise, weight, shrink):
    """sum of e * (y - max) after ``max`` rose by ``rise`` and every e shrank; ``weight`` is the sum of e before."""
    return tl.where(shrink == 0.0, 0.0, shrink * (total - rise * weight))


@triton.jit
def row_figures(
    student, teacher, student_bias, teacher_bias, labels, figures,
    stride_s, stride_t, columns_V, t,
    s_scale, s_cap, t_scale, t_cap,
    HAS_TEACHER: tl.constexpr, MIXED: tl.constexpr,
    S_BIAS: tl.constexpr, T_BIAS: tl.constexpr, S_CAP: tl.constexpr, T_CAP: tl.constexpr,
    COUNT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Figures of one row, into ``figures[row, :COUNT]`` in the order of ``triton_tile.FIGURES``."""
    row = tl.program_id(0).to(tl.int64)
    s_row, t_row = student + row * stride_s, teacher + row * stride_t
    max_s = LOWEST
    max_t = LOWEST
    max_m = LOWEST
    sum_s = 0.0
    sum_t = 0.0
    sum_m = 0.0
    own_s = 0.0  # sums of exp(z - max) times: a model's own logit, the student's, the target's
    own_t = 0.0
    own_m = 0.0
    t_of_s = 0.0
    m_of_s = 0.0
    s_of_x = 0.0
    top = 0
    for start in range(0, columns_V, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        inside = columns < columns_V
        s = _logits(s_row, student_bias, columns, inside, s_scale, s_cap, S_BIAS, S_CAP)
        new_s = tl.maximum(max_s, tl.max(s, axis=0))
        rise_s = new_s - max_s
        shrink_s = tl.exp(-rise_s)
        own_s = _risen(own_s, rise_s, sum_s, shrink_s)
        e_s = tl.exp(s - new_s)
        if HAS_TEACHER:
            t_z = _logits(t_row, teacher_bias, columns, inside, t_scale, t_cap, T_BIAS, T_CAP)
            block_t, block_top = tl.max(t_z, axis=0, return_indices=True)
            top = tl.where(block_t > max_t, start + block_top, top)
            new_t = tl.maximum(max_t, block_t)
            rise_t = new_t - max_t
            shrink_t = tl.exp(-rise_t)
            own_t = _risen(own_t, rise_t, sum_t, shrink_t)
            t_of_s = _risen(t_of_s, rise_s, sum_t, shrink_t)
            sum_t *= shrink_t
            e_t = tl.exp(t_z - new_t)
            if MIXED:
                m = tl.where(inside, (1.0 - t) * s + t * t_z, -float("inf"))
                new_m = tl.maximum(max_m, tl.max(m, axis=0))
                rise_m = new_m - max_m
                shrink_m = tl.exp(-rise_m)
                own_m = _risen(own_m, rise_m, sum_m, shrink_m)
                m_of_s = _risen(m_of_s, rise_s, sum_m, shrink_m)
                sum_m *= shrink_m
                e_m = tl.exp(m - new_m)
                s_of_x = _risen(s_of_x, rise_m, sum_s, shrink_s)
                own_m += _weighted(e_m, m - new_m)
                m_of_s += _weighted(e_m, s - new_s)
                sum_m += tl.sum(e_m, axis=0)
                s_of_x += _weighted(e_s, m - new_m)
                max_m = new_m
            else:
                s_of_x = _risen(s_of_x, rise_t, sum_s, shrink_s)
                s_of_x += _weighted(e_s, t_z - new_t)
            own_t += _weighted(e_t, t_z - new_t)
            t_of_s += _weighted(e_t, s - new_s)
            sum_t += tl.sum(e_t, axis=0)
            max_t = new_t
        own_s += _weighted(e_s, s - new_s)
        sum_s = sum_s * shrink_s + tl.sum(e_s, axis=0)
        max_s = new_s

    label = tl.load(labels + row)
    known = (label >= 0) & (label < columns_V)
    at_label = _logits(s_row, student_bias, tl.where(known, label, 0), known, s_scale, s_cap, S_BIAS, S_CAP)
    out = figures + row * COUNT
    tl.store(out + 0, max_s)
    tl.store(out + 1, tl.log(sum_s))
    tl.store(out + 2, own_s / sum_s)
    tl.store(out + 3, at_label)
    if HAS_TEACHER:
        at_top = _logits(s_row, student_bias, top, top >= 0, s_scale, s_cap, S_BIAS, S_CAP)
        tl.store(out + 4, max_t)
        tl.store(out + 5, tl.log(sum_t))
        tl.store(out + 6, own_t / sum_t)
        tl.store(out + 7, t_of_s / sum_t)
        tl.store(out + 8, s_of_x / sum_s)
        tl.store(out + 9, (at_top == max_s).to(tl.float32))
        if MIXED:
            tl.store(out + 10, max_m)
            tl.store(out + 11, tl.log(sum_m))
            tl.store(out + 12, own_m / sum_m)
            tl.store(out + 13, m_of_s / sum_m)


@triton.jit
def _at_least_tiny(m):
    """A mixture that a logarithm can be taken of; NaN stays NaN, as hardware's maximum would not have it."""
    return tl.maximum(m, TINY, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _terms(log_q, log_p, first, second, theirs, KIND: tl.constexpr):
    """Value of the divergence at each token and its slope dD/dlog q, by the closed forms of the Python files."""
    q = tl.exp(log_q)
    p = tl.exp(log_p)
    of_q = tl.where(q == 0.0, 0.0, q * (log_q - log_p))
    of_p = tl.where(p == 0.0, 0.0, p * (log_p - log_q))
    value = of_p
    slope = -p
    if KIND == RKL:
        value = of_q
        slope = of_q + q
    if KIND == TVD:
        value = 0.5 * tl.abs(q - p)
        slope = 0.5 * q * tl.where(q > p, 1.0, tl.where(q < p, -1.0, 0.0))
    if KIND == JSD:
        log_m = tl.log(_at_least_tiny(first * p + (1.0 - first) * q))
        of_q = tl.where(q == 0.0, 0.0, q * (log_q - log_m))
        value = first * tl.where(p == 0.0, 0.0, p * (log_p - log_m)) + (1.0 - first) * of_q
        slope = (1.0 - first) * of_q
    if KIND == AB:
        value, slope = _alpha_beta(log_q, log_p, first, second)
    if KIND == TODI:
        ratio = tl.where((q == 0.0) & (p == 0.0), 0.5, tl.sigmoid(log_p - log_q))
        value = ratio * of_p + (1.0 - ratio) * of_q
        slope = (1.0 - ratio) * (of_q + q) - ratio * p
    if (KIND == SFKL) or (KIND == DISTILLM2):
        m = _at_least_tiny(first * p + (1.0 - first) * q)
        value = tl.where(p == 0.0, 0.0, p * (log_p - tl.log(m)))
        slope = (first - 1.0) * p * (q / m)
    if (KIND == SRKL) or (KIND == DISTILLM2):
        m = _at_least_tiny((1.0 - first) * p + first * q)
        reverse = tl.where(q == 0.0, 0.0, q * (log_q - tl.log(m)))
        reverse_slope = reverse - first * q * (q / m)
        if KIND == SRKL:
            value = reverse
            slope = reverse_slope
        else:
            value = tl.where(theirs, second * reverse, (2.0 - second) * value)
            slope = tl.where(theirs, second * reverse_slope, (2.0 - second) * slope)
    return value, slope


@triton.jit
def _alpha_beta(log_q, log_p, alpha, beta):
    """Both of ABKD, and of its limits where alpha or beta is 0."""
    total = alpha + beta
    q = tl.exp(total * log_q)
    p = tl.exp(total * log_p)
    both = tl.exp(alpha * log_p + beta * log_q)
    of_q = tl.where(q == 0.0, 0.0, q * (log_q - log_p))
    of_p = tl.where(p == 0.0, 0.0, p * (log_p - log_q))
    value = (alpha / total * p + beta / total * q - both) / (alpha * beta)
    slope = (q - both) / alpha
    value = tl.where(alpha == 0.0, of_q / beta + (p - q) / (beta * beta), value)
    slope = tl.where(alpha == 0.0, of_q, slope)
    value = tl.where(beta == 0.0, of_p / alpha + (q - p) / (alpha * alpha), value)
    slope = tl.where(beta == 0.0, (q - p) / alpha, slope)
    return value, slope


@triton.jit
def row_divergence(
    student, teacher, student_bias, teacher_bias, figures, written, sums,
    stride_s, stride_t, columns_V, t, first, second,
    s_scale, s_cap, t_scale, t_cap,
    MIXED: tl.constexpr, WRITTEN: tl.constexpr,
    S_BIAS: tl.constexpr, T_BIAS: tl.constexpr, S_CAP: tl.constexpr, T_CAP: tl.constexpr,
    KIND: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum of the divergence's values and of its slopes over one row, into ``sums[row, :2]``."""
    row = tl.program_id(0).to(tl.int64)
    of_row = figures + row * COUNT
    base = 10 if MIXED else 4
    lse_s = tl.load(of_row) + tl.load(of_row + 1)
    lse_x = tl.load(of_row + base) + tl.load(of_row + base + 1)
    theirs = False
    if WRITTEN:
        theirs = tl.load(written + row) != 0
    value = 0.0
    slope = 0.0
    for start in range(0, columns_V, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        inside = columns < columns_V
        s = _logits(student + row * stride_s, student_bias, columns, inside, s_scale, s_cap, S_BIAS, S_CAP)
        x = _logits(teacher + row * stride_t, teacher_bias, columns, inside, t_scale, t_cap, T_BIAS, T_CAP)
        if MIXED:
            x = tl.where(inside, (1.0 - t) * s + t * x, -float("inf"))
        values, slopes = _terms(s - lse_s, x - lse_x, first, second, theirs, KIND)
        value += tl.sum(tl.where(inside, values, 0.0), axis=0)
        slope += tl.sum(tl.where(inside, slopes, 0.0), axis=0)
    tl.store(sums + 2 * row, value)
    tl.store(sums + 2 * row + 1, slope)


@triton.jit
def store_gradient(
    student, teacher, student_bias, teacher_bias, labels, figures, written, sums, shares,
    stride_s, stride_t, columns_V, t, first, second, kd_weight, ce_weight,
    s_scale, s_cap, t_scale, t_cap,
    HAS_TEACHER: tl.constexpr, MIXED: tl.constexpr, WRITTEN: tl.constexpr,
    S_BIAS: tl.constexpr, T_BIAS: tl.constexpr, S_CAP: tl.constexpr, T_CAP: tl.constexpr,
    KIND: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradient of the weighted loss with respect to the student's product, over that product."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < columns_V
    of_row = figures + row * COUNT
    s_row = student + row * stride_s
    s = _logits(s_row, student_bias, columns, inside, s_scale, s_cap, S_BIAS, S_CAP)
    log_q = s - tl.load(of_row) - tl.load(of_row + 1)
    q = tl.exp(log_q)
    # A soft label's share of the whole vocabulary's softmax, less the label.
    gradient = ce_weight * (q * tl.load(shares + row) - tl.where(columns == tl.load(labels + row), 1.0, 0.0))
    if KIND != NONE:
        base = 10 if MIXED else 4
        x = _logits(teacher + row * stride_t, teacher_bias, columns, inside, t_scale, t_cap, T_BIAS, T_CAP)
        if MIXED:
            x = tl.where(inside, (1.0 - t) * s + t * x, -float("inf"))
        log_p = x - tl.load(of_row + base) - tl.load(of_row + base + 1)
        theirs = False
        if WRITTEN:
            theirs = tl.load(written + row) != 0
        _, slope = _terms(log_q, log_p, first, second, theirs, KIND)
        gradient += kd_weight * (slope - q * tl.load(sums + 2 * row + 1))
    gradient *= s_scale
    if S_CAP:
        gradient *= 1.0 - (s / s_cap) * (s / s_cap)
    tl.store(s_row + columns, gradient.to(student.dtype.element_ty), mask=inside)
