"""The losses again, as loops over numpy float64: slow, and too simple to be wrong."""

import numpy as np


def simclr_loss(view1, view2, temperature=0.1):
    rows = np.concatenate([view1, view2]).astype(np.float64)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    b, total = len(view1), 0.0
    for i in range(2 * b):
        partner = (i + b) % (2 * b)
        scores = [rows[i] @ rows[j] / temperature for j in range(2 * b) if j != i]
        total -= rows[i] @ rows[partner] / temperature - np.log(np.sum(np.exp(scores)))
    return total / (2 * b)


def info_nce(logits, positives, mask=None, smoothing=0.0):
    total = 0.0
    for i in range(len(logits)):
        keys = [j for j in range(logits.shape[1]) if mask is None or not mask[i, j]]
        log_sum = np.log(sum(np.exp(logits[i, j]) for j in keys))
        for j in keys:
            wanted = smoothing / len(keys) + (1 - smoothing) * (j == positives[i])
            total -= wanted * (logits[i, j] - log_sum)
    return total / len(logits)


def cosines(a, b):
    return np.array([[u @ v / np.sqrt(u @ u) / np.sqrt(v @ v) for v in b] for u in a])


def clip_loss(image, text, scale, smoothing=0.0):
    logits, own = scale * cosines(image, text), range(len(image))
    return (info_nce(logits, own, None, smoothing) + info_nce(logits.T, own, None, smoothing)) / 2


def siglip_loss(image, text, scale, bias):
    logits, total = scale * cosines(image, text) + bias, 0.0
    for i, j in np.ndindex(logits.shape):
        p = 1 / (1 + np.exp(-logits[i, j]))
        total -= np.log(p) if i == j else np.log(1 - p)
    return total / len(image)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def dino_loss(student, teacher, center, student_temperature=0.1, teacher_temperature=0.04):
    terms = []
    for i in range(student.shape[1]):
        for t in range(len(teacher)):
            for s in range(len(student)):
                if s != t:
                    p = softmax((teacher[t, i] - center) / teacher_temperature)
                    q = softmax(student[s, i] / student_temperature)
                    terms.append(-sum(p[k] * np.log(q[k]) for k in range(len(center))))
    return np.mean(terms)


def mae_loss(pred, patches, mask):
    errors = []
    for i, t in np.ndindex(mask.shape):
        if mask[i, t]:
            pixels = patches[i, t]
            mean = sum(pixels) / len(pixels)
            variance = sum((x - mean) ** 2 for x in pixels) / (len(pixels) - 1)
            target = [(x - mean) / np.sqrt(variance + 1e-6) for x in pixels]
            errors.append(sum((a - b) ** 2 for a, b in zip(pred[i, t], target, strict=True)) / len(pixels))
    return sum(errors) / len(errors)


def ijepa_loss(pred, target, mask=None):
    errors = []
    for at in np.ndindex(pred.shape[:-1]):
        if mask is None or mask[at]:
            e = [abs(a - b) for a, b in zip(pred[at], target[at], strict=True)]
            errors.append(sum(x * x / 2 if x < 1 else x - 0.5 for x in e) / len(e))
    return sum(errors) / len(errors)


def gradient(twin, args, which, step=1e-5):
    """Of a twin with respect to args[which], by central finite differences in float64."""
    args = [np.asarray(x, np.float64) for x in args]
    out = np.zeros(args[which].shape)
    for at in np.ndindex(out.shape):
        for sign in (1, -1):
            moved = [x.copy() for x in args]
            moved[which][at] += sign * step
            out[at] += sign * twin(*moved) / (2 * step)
    return out


def value_target(reward, next_q, gamma):
    y = np.zeros(reward.shape)
    for b, j, l in np.ndindex(reward.shape):
        best = max(1 / (1 + np.exp(-next_q[b, j, k, l])) for k in range(next_q.shape[2]))
        y[b, j, l] = (1 - gamma) * reward[b, j, l] + gamma * best
    return y


def value_loss(q, target):
    total = 0.0
    for b, i, j, l in np.ndindex(q.shape):
        p = 1 / (1 + np.exp(-q[b, i, j, l]))
        total -= target[b, j, l] * np.log(p) + (1 - target[b, j, l]) * np.log(1 - p)
    return total / np.prod(q.shape[:3])
