"""The decoder probe: a small autoregressive decoder reads the tokens of a frozen backbone and answers questions.

One interface for every task (Beyer et al. 2023; METHODS §5.2): what is asked and what is answered are tokens, of
`abx.probes.questions`. The paper says four layers; of the rest it says nothing, and Beyer et al. not in public.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from abx import parallel
from abx.nn.answers import AnswerConfig, AnswerDecoder
from abx.optim import AdamW
from abx.probes.batches import Asked
from abx.probes.questions import EOS, PAD, Answers, Language
from abx.probes.standard import Standard
from abx.types import AnyArray, Aux, Axis

OPTIM = AdamW(lr=1e-3, warmup=0.05, weight_decay=1e-4, weight_decay_end=1e-4, clip=1.0)
"""Our choice (METHODS §5.2): batches of 1,024 for classes and of 256 for detection, 20 to 30 epochs; 3e-4 and 3e-3 are
the other learning rates to try."""


class DecoderModel(eqx.Module):
    standard: Standard
    decoder: AnswerDecoder

    def __call__(
        self, tokens: Float[AnyArray, "t d"], question: Int[AnyArray, " s"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "s v"]:
        """Logits of each token of a question, given the picture and the tokens before it. `key`: for dropout."""
        return self.decoder.teach(self.standard(tokens), question, key=key)


@dataclass(frozen=True)
class DecoderProbe:
    """Learns to write the answers of one task, given the tokens of a frozen backbone."""

    language: Language = field(default_factory=lambda: Language(words=1000))
    decoder: AnswerConfig = field(default_factory=AnswerConfig)
    smoothing: float = 0.1
    """Label smoothing: share of the target spread over all tokens. 0 for detection (pix2seq has none)."""

    def problems(self) -> list[str]:
        found = self.decoder.problems()
        for name in ("words", "bins"):
            if getattr(self.language, name) < 2:
                found.append(f"language.{name} must be at least 2, not {getattr(self.language, name)}")
        if not 0 <= self.smoothing < 1:
            found.append(f"smoothing must be in [0, 1), not {self.smoothing}")
        return found

    def init(self, key: PRNGKeyArray, batch: Any = None) -> tuple[DecoderModel, Any]:
        """`batch`: `Asked`, of as many pictures as one can afford: tokens are standardised by these. Its questions are
        as long as all are."""
        length, memory = batch.questions.shape[1], batch.tokens.shape[-1]
        decoder = AnswerDecoder(self.decoder, memory, self.language.size, length, key=key)
        return DecoderModel(Standard(batch.tokens), decoder), ()

    def loss(
        self,
        model: DecoderModel,
        target: DecoderModel,
        carry: Any,
        batch: Asked,
        key: PRNGKeyArray,
        *,
        axis: Axis = None,
    ) -> tuple[Float[Array, ""], Aux]:
        """Cross-entropy of the tokens of the whole batch that have a weight, averaged with it."""
        questions = jnp.asarray(batch.questions, jnp.int32)
        keys = parallel.row_keys(key, len(questions), axis)
        logits = jax.vmap(lambda tokens, question, key: model(tokens, question, key=key))(batch.tokens, questions, keys)
        logp = jax.nn.log_softmax(logits)
        correct = jnp.take_along_axis(logp, questions[..., None], -1)[..., 0]
        smoothed = (1 - self.smoothing) * correct + self.smoothing * logp.mean(-1)
        weights = jnp.asarray(batch.weights, jnp.float32)
        # Everyone's weights: devices may hold more and fewer tokens that count.
        weights = weights / jnp.maximum(parallel.mean(weights.sum(), axis), 1e-6)
        loss = -(weights * smoothed).sum()
        right = jnp.where(logits.argmax(-1) == questions, weights, 0).sum()
        return loss, Aux({"probe/loss": loss, "probe/token_top1": right}, carry)


@partial(jax.jit, static_argnames=("language", "places"))
def _write(
    model: DecoderModel,
    tokens: Float[AnyArray, "m t d"],
    prompts: Int[AnyArray, "m p"],
    language: Language,
    places: tuple[int, ...],
) -> tuple[Int[Array, "m a"], Float[Array, "m c w"]]:
    decoder, ids = model.decoder, jnp.arange(language.size)
    prompt = prompts.shape[1]
    answer = max(places) + 1 - prompt
    words = ids >= language.first_word
    # Or the end, which some tasks have after the last object; what is written after it means nothing.
    coordinates = ((ids >= language.first_place) & ~words) | (ids == EOS)
    wanted = jnp.asarray([prompt + i in places for i in range(answer)])

    def one(tokens: Array, asked: Array) -> tuple[Array, Array]:
        memory = decoder.memory(model.standard(tokens))
        # One place more than is read: what follows the last token is computed too.
        past = decoder.past(prompt + answer + 1)
        before = jnp.concatenate([jnp.full(1, PAD, jnp.int32), asked.astype(jnp.int32)])
        logits, past = decoder(before, past, memory, 0)

        def write(state: tuple[Array, Any, Array], word: Array) -> tuple[tuple[Array, Any, Array], tuple[Array, Array]]:
            logits, past, at = state
            token = jnp.where(jnp.where(word, words, coordinates), logits, -jnp.inf).argmax().astype(jnp.int32)
            following, past = decoder(token[None], past, memory, at)
            return (following[0], past, at + 1), (token, jax.nn.softmax(logits[language.first_word :]))

        start = (logits[-1], past, jnp.int32(prompt + 1))
        _, (written, scores) = jax.lax.scan(write, start, wanted)
        return written, scores[jnp.asarray(places) - prompt]

    return jax.vmap(one)(jnp.asarray(tokens), jnp.asarray(prompts))


def answer(
    model: DecoderModel,
    tokens: Float[AnyArray, "m t d"],
    prompts: Int[AnyArray, "m p"],
    language: Language,
    places: tuple[int, ...],
) -> Answers:
    """The most probable token, one after the other, up to the last word; and at each word, how probable all words are.

    Greedy, for every task: a class is one word; an action two, the second given the first; an object of a detection
    four coordinates and a word. Only words are written at the places of words, and only coordinates or EOS elsewhere.
    The probability of a detected class is that among all words, "fake" with them (METHODS §5.4).

    Args:
        prompts: the first tokens of each question.
        places: positions in a question where a word stands (`Task.places`).
    """
    written, scores = _write(model, tokens, prompts, language, places)
    return Answers(np.asarray(written), np.asarray(scores))
