"""CLIP ViT-B/32 with OpenAI's weights: one vector a picture, one a text or one a token, in the same space."""

import hashlib
import io
import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image

from common.errors import WeightsError
from common.output import loading
from extract.encoders.compute import Compute, seeded
from extract.encoders.joint.base import JointEncoder, Logits
from extract.encoders.joint.kept import kept
from extract.encoders.pixels import DevicePixels, Pixels, short_side
from extract.weights import states
from extract.weights.sources import Wanted, Weights, random_identity, reachable, sha256_file

# the plain "ViT-B-32" builds GELU where OpenAI's weights were trained with QuickGELU, and says nothing
ARCHITECTURE = "ViT-B-32-quickgelu"
FILE = Wanted(
    "clip-vit-b-32",
    ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "ViT-B-32.pt"),
    "https://huggingface.co/timm/vit_base_patch32_clip_224.openai",
)
OPENAI_SHA256 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"  # of ViT-B-32.pt, from its own URL
IMAGE = "open_clip image_transform: short side to 224, bicubic with antialias, center crop, OpenAI mean"
CONTEXT = 77
SIDE, MEAN, STD = 224, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # open_clip's, too
TEXT = f"open_clip's BPE, {CONTEXT} tokens, end token kept when cut"


class Clip(JointEncoder):
    """The papers' joint encoder."""

    name = "CLIP"
    logits = Logits(100.0, None)  # of OpenAI's weights: the most that training allowed
    tokens_recipe: ClassVar[dict[str, Any]] = {"tokenizer": TEXT}

    def __init__(self, weights: Weights, compute: Compute, text_batch: int, image_batch: int) -> None:
        super().__init__(compute, text_batch, image_batch)
        self._weights = weights
        self._path = None if weights.random else weights.find(FILE, _download)
        if self._path and self._path.suffix == ".pt":
            _refuse_other(self._path, sha256_file(self._path))
        self.width = 32 if weights.tiny else 512
        self.recipe: dict[str, Any] = {
            "encoder": "open_clip",
            "architecture": "CLIP, tiny" if weights.tiny else ARCHITECTURE,
            "weights": sha256_file(self._path) if self._path else random_identity(weights.kind, "open_clip_torch"),
            "image": IMAGE if not compute.on_device else f"{IMAGE}, on {compute.resized_as}",
            "text": TEXT,
            "compute": compute.precision,
            "batch": f"{text_batch} texts and {image_batch} pictures of one shard in row order",
        }

    @property
    def sizes(self) -> dict[str, int]:
        """What is behind the axes of states and patches: 7 x 7 patches of 32 x 32 pixels."""
        return {"L": 64, "I": 64, "G": 49} if self._weights.tiny else {"L": 512, "I": 768, "G": 49}

    def states(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the states of tokens (n, 77) behind the last layer norm: (n, 77, L)."""
        with kept(self.model.ln_final) as outputs:
            self.model.encode_text(ids)
        found: torch.Tensor = outputs[0]
        return found

    def projected(self, states: torch.Tensor) -> torch.Tensor:
        """Return states (n, T, L) projected as the text vector is; the end token's is that vector: (n, T, P)."""
        found: torch.Tensor = states @ self.model.text_projection
        return found

    def count(self, text: str, limit: int = 0) -> int:
        """Return how many tokens CLIP reads of a text, start and end tokens included, whatever `limit` says."""
        return min(len(self._encode(text)) + 2, CONTEXT)

    def ids(self, texts: Sequence[str]) -> torch.Tensor:
        """Return token ids, (n, 77), zeros behind the end token."""
        ids = torch.zeros(len(texts), CONTEXT, dtype=torch.long)
        for row, text in enumerate(texts):
            kept = self._encode(text)[: CONTEXT - 2]
            ids[row, : len(kept) + 2] = torch.tensor([self._start, *kept, self._end])
        return ids

    def is_cut(self, text: str) -> bool:
        """Whether a text has more than the 77 tokens that CLIP reads."""
        # a token is at least a byte and cleaning lengthens no text more than fourfold, so short texts need no count
        return len(text.encode()) * 4 > CONTEXT - 2 and len(self._encode(text)) > CONTEXT - 2

    def _encode(self, text: str) -> list[int]:
        """Return the ids of a text's own tokens.

        One that spells the end token, "<end_of_text>", would end there for the model, and what follows be lost.
        """
        return [token for token in self._tokenizer.encode(text) if token not in (self._start, self._end)]

    @cached_property
    def model(self) -> Any:
        """The model with its weights, on the device."""
        return self._compute.place(_load(self._path, self._weights.tiny))

    @cached_property
    def pixels(self) -> Pixels:
        """How the model reads pictures: as open_clip's transform does, or made as small on the device."""
        if not self._compute.on_device:
            return super().pixels
        return DevicePixels(short_side(SIDE), lambda: SIDE, MEAN, STD)

    @cached_property
    def transform(self) -> Callable[[Image.Image], torch.Tensor]:
        """The function from a picture to what the model reads of it, (3, 224, 224)."""
        from open_clip.transform import image_transform

        return image_transform(self.model.visual.image_size, is_train=False)

    @cached_property
    def _tokenizer(self) -> Any:
        with loading("open_clip"):
            from open_clip.tokenizer import SimpleTokenizer  # its vocabulary is inside the package

        return SimpleTokenizer(context_length=CONTEXT)

    @property
    def _start(self) -> int:
        return self._tokenizer.sot_token_id

    @property
    def _end(self) -> int:
        return self._tokenizer.eot_token_id


def _load(path: Path | None, tiny: bool) -> torch.nn.Module:
    with loading("open_clip"):
        import open_clip
        from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    with seeded():
        if tiny:
            vision = CLIPVisionCfg(layers=2, width=64, head_width=32, patch_size=32, image_size=224)
            return CLIP(32, vision, CLIPTextCfg(layers=2, width=64, heads=2, context_length=CONTEXT), quick_gelu=True)
        logging.disable(logging.WARNING)  # it warns that weights are random, as they are until the next lines
        try:
            model = open_clip.create_model(ARCHITECTURE, pretrained=None)
        finally:
            logging.disable(logging.NOTSET)
    if path is not None:
        state = _openai_state(path) if path.suffix == ".pt" else states.read(path, ARCHITECTURE)
        states.fill(model, state, path, ARCHITECTURE)
    return model


def _openai_state(path: Path) -> states.State:
    """Return the tensors of OpenAI's own file and of no other: loading a scripted module runs what is in it."""
    try:
        data = path.read_bytes()
        _refuse_other(path, hashlib.sha256(data).hexdigest())
        state = torch.jit.load(io.BytesIO(data), map_location="cpu").state_dict()
    except states.UNREADABLE as error:
        raise states.unfit(path, ARCHITECTURE, error) from error
    for extra in ("input_resolution", "context_length", "vocab_size"):
        state.pop(extra, None)
    return {name: tensor.float() for name, tensor in state.items()}


def _refuse_other(path: Path, sha256: str) -> None:
    if sha256 != OPENAI_SHA256:
        raise WeightsError(f"{path} is not OpenAI's ViT-B-32.pt: its sha256 is not {OPENAI_SHA256[:12]}...")


def _download() -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, name = "timm/vit_base_patch32_clip_224.openai", FILE.names[0]
    try:
        return Path(hf_hub_download(repository, name, local_files_only=True))
    except LocalEntryNotFoundError:
        reachable("huggingface.co")
        return Path(hf_hub_download(repository, name))
