"""The tokenizer of a checkpoint, extended as the release extends it; a tiny one built offline."""

import functools
import os
import pathlib
from typing import Iterable

import tokenizers
from tokenizers import pre_tokenizers, trainers

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.tokens import tokenizer_files, vocabulary
from alpamayo_jax.types import InputError


class Tokenizer:
    """Byte-level BPE with trajectory and special tokens whose ids are the configuration's."""

    def __init__(self, backend: tokenizers.Tokenizer, config: ModelConfig, source: str):
        """Adds what `backend` lacks of the release's tokens and checks every id.

        Args:
          backend: a tokenizer of this package's own; it is changed.
          config: says which id each token must have.
          source: where the tokenizer comes from, for messages.

        Raises:
          InputError: a token has another id than the configuration says.
        """
        self._backend = backend
        self._vocab_size = config.language.vocab_size
        self._source = source
        tokens = config.trajectory_tokens
        backend.add_tokens([
            tokenizers.AddedToken(vocabulary.trajectory_token(i))
            for i in range(tokens.traj_vocab_size)
        ])
        backend.add_special_tokens([
            tokenizers.AddedToken(vocabulary.special(name), special=True)
            for name in vocabulary.SPECIAL_NAMES
        ])
        self._check_ids(config)

    @classmethod
    def from_directory(cls, directory: str | os.PathLike, config: ModelConfig) -> "Tokenizer":
        """Loads the tokenizer of checkpoint `directory`, from its files alone.

        They are looked for in the directory and in the folder inside it that `vlm_name_or_path` of
        its config.json names.

        Raises:
          InputError: files absent, unreadable, outside the directory, or of another vocabulary.
        """
        folder = tokenizer_files.find_folder(directory)
        return cls(tokenizer_files.read_backend(folder), config, str(folder))

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; special and trajectory tokens in it become their ids."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`, special tokens kept; bytes that are no UTF-8 become U+FFFD.

        Ids of the model's vocabulary that no token has (rows that pad the embedding) give no text.

        Raises:
          InputError: an id outside the model's vocabulary.
        """
        ids = [int(i) for i in ids]
        for i in ids:
            if not 0 <= i < self._vocab_size:
                raise InputError(f"token id {i} is not in [0, {self._vocab_size})")
        return self._backend.decode(ids, skip_special_tokens=False)

    def token_id(self, token: str) -> int:
        """Id of one token, e.g. "<|im_start|>".

        Raises:
          InputError: the vocabulary has no such token.
        """
        found = self._backend.token_to_id(token)
        if found is None:
            raise InputError(f"tokenizer {self._source} has no token {token!r}")
        return found

    @property
    def size(self) -> int:
        """How many tokens there are, added ones included."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    def save(self, directory: str | os.PathLike) -> None:
        """Writes tokenizer.json and tokenizer_config.json, which `from_directory` reads back."""
        tokenizer_files.write(pathlib.Path(directory), self._backend)

    def files(self) -> dict[str, bytes]:
        """Name -> content of what `save` writes, e.g. for a checkpoint's `extra_files`."""
        return tokenizer_files.contents(self._backend)

    def _check_ids(self, config: ModelConfig) -> None:
        tokens = config.trajectory_tokens
        expected = {
            vocabulary.special(name): i
            for name, i in vocabulary.special_token_ids(config).items()
        }
        for i in range(tokens.traj_vocab_size):
            expected[vocabulary.trajectory_token(i)] = tokens.traj_token_start_idx + i
        for token, wanted in expected.items():
            found = self._backend.token_to_id(token)
            if found != wanted:
                raise InputError(
                    f"tokenizer {self._source}: token {token!r} has id {found}, the configuration "
                    f"expects {wanted}; these tokenizer files belong to another model"
                )
        if self.size > self._vocab_size:
            raise InputError(
                f"tokenizer {self._source} has {self.size} tokens, the model's vocab_size is "
                f"{self._vocab_size}"
            )


# What the tiny vocabulary is trained on: the prompts, and the kind of sentence a drive is explained
# with. Changing a word changes ids, and with them the meaning of every tiny checkpoint without
# tokenizer files of its own.
_SENTENCES = """\
You are a driving assistant that generates safe and accurate actions.
output the chain-of-thought reasoning of the driving process, then output the future trajectory.
output meta actions, then output the future trajectory.
Front left camera: frame 0 Front camera: frame 1 Front right camera: frame 2
Rear left camera: frame 3 Rear camera: frame 0 Rear right camera: frame 1
Front telephoto camera: frame 2 system user assistant
Keep lane since the road ahead is clear.
Keep lane and hold the current speed because the lane ahead is clear.
Keep distance to the lead vehicle because it is slower than the ego vehicle.
Slow down to keep a safe distance to the lead vehicle since it is braking.
Slow down because the road ahead curves to the left.
Slow down because the road ahead curves to the right.
Accelerate to the speed limit since the lane ahead is clear.
Resume speed because the lead vehicle has moved on.
Stop for the red light at the intersection.
Stop behind the stopped vehicle ahead.
Stop for the pedestrian who is crossing the road.
Yield to the oncoming vehicle before the left turn.
Yield to the cyclist that crosses from the right.
Adapt speed for the left turn at the intersection.
Adapt speed for the right turn at the intersection.
Turn left at the intersection to follow the route.
Turn right at the intersection to follow the route.
Change lane to the left to overtake the slow vehicle.
Change lane to the right because the lane ends ahead.
Nudge to the left to pass the parked vehicle on the right.
Nudge to the right to give room to the oncoming truck.
Merge into the lane because there is a gap behind the lead vehicle.
Wait because traffic is standing still, then start when the light turns green.
Turn left in 40 m. Turn right in 120 m. Continue straight for 300 m.
At the roundabout take the exit.
What should the ego vehicle do next? Is there a pedestrian ahead? Yes. No. Which light is on?
gentle acceleration, gentle deceleration, strong deceleration, steer left, steer right, go straight
"""

# The special tokens of the tiny vocabulary, last and in the order of the Qwen tokenizer.
_TINY_SPECIAL = (
    "endoftext", "im_start", "im_end", "vision_start", "vision_end", "video_pad", "image_pad",
)


@functools.lru_cache(maxsize=8)
def tiny_tokenizer(config: ModelConfig) -> Tokenizer:
    """A small byte-level BPE built offline, the same every time, for configurations like `tiny`.

    Its base vocabulary fills the ids below `traj_token_start_idx`, special tokens last.

    Raises:
      InputError: the configuration's ids are not laid out that way, or leave too little or too
        much room for a vocabulary of this kind.
    """
    base = config.trajectory_tokens.traj_token_start_idx
    num_text = base - len(_TINY_SPECIAL)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend = tokenizer_files.byte_level_bpe()
    trainer = trainers.BpeTrainer(
        vocab_size=max(num_text, 0), initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(_SENTENCES.splitlines(), trainer)
    found = backend.get_vocab_size()
    if found != num_text:
        raise InputError(
            f"a tiny tokenizer for trajectory_tokens.traj_token_start_idx {base} needs {num_text} "
            f"text tokens, but its training text gives {found}"
        )
    backend.add_special_tokens([
        tokenizers.AddedToken(vocabulary.special(name), special=True)
        for name in _TINY_SPECIAL
    ])
    return Tokenizer(backend, config, "of the tiny preset")
