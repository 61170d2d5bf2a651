"""What every trained head is: scores of a mention's candidates, and a loss."""

from collections.abc import Mapping

from torch import Tensor, nn

from train.data.batch import Batch


class Head(nn.Module):
    """A head: `forward`, `loss`, and `project` for what of its entity columns depends on no mention.

    Where the score is the cosine of `embed` and `project`, `two_towers` says so: then all entities can be scored. So
    they can where it is their dot product plus `strings`, up to a factor, of a head that `adds_strings`; the lengths of
    both vectors have a product of at most 8. A factor that differs from seed to seed is what its `reach()` returns, ():
    by that the mean of seeds weighs them.
    Losses of more than the scores override `objective`. Heads are trained under torch.func.vmap unless `stackable`
    is false. One that `starts_as_it_is` may be selected before it is trained.
    """

    projects: tuple[str, ...] = ()  # entity columns that `project` alone reads
    two_towers = False
    adds_strings = False
    starts_as_it_is = False
    stackable = True

    def project(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return what of entities depends on no mention: of columns (..., W) vectors (..., D)."""
        raise NotImplementedError

    def embed(self, batch: Batch) -> Tensor:
        """Return the mention vectors (B, D) whose cosine with `project` is the score."""
        raise NotImplementedError

    def strings(self, facts: Tensor, lexical: Tensor) -> Tensor:
        """Return what is added of data.string_facts (..., facts) and string scores (...) of pairs, (...)."""
        raise NotImplementedError

    def forward(self, batch: Batch, projected: Tensor | None = None) -> Tensor:
        """Return scores (B, C), padding -inf.  `projected` (B, C, D) stands for `project` where it is known."""
        raise NotImplementedError

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the loss of scores (B, C), ()."""
        raise NotImplementedError

    def objective(self, batch: Batch) -> Tensor:
        """Return what training minimizes, ()."""
        return self.loss(self(batch), batch)
