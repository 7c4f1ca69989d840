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
