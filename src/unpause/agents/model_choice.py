"""Which of an agent's models runs a run: its own, or the one that a client chose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.agents.driver import ModelName
from unpause.errors import ModelNotAllowed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_ai.models import Model


class ModelChoice:
    """An agent's ``own`` model, and ``others`` by the names that clients use."""

    def __init__(self, own: Model, others: Mapping[str, Model]) -> None:
        self.own = own
        self._others = others
        self._own_name = f"{own.system}:{own.model_name}"

    def get(self, choice: str | None) -> Model:
        """Return the model that a client's choice means; raise ModelNotAllowed.

        None is the agent's own, which may be chosen by its name, too: ``PROVIDER:NAME``.
        """
        if choice is None:
            return self.own
        model = self._others.get(choice)
        if model is not None:
            return model
        if choice == self._own_name:
            return self.own
        raise ModelNotAllowed(choice, list(dict.fromkeys([self._own_name, *self._others])))

    def describe(self, choice: str | None) -> ModelName:
        """Return the same as it is shown to people; raise ModelNotAllowed."""
        model = self.get(choice)
        return ModelName(model.model_name, model.system)

    def list_names(self) -> dict[str, ModelName]:
        """Return all models that a client may choose, by the names that clients use, the agent's own first."""
        return {name: self.describe(name) for name in dict.fromkeys([self._own_name, *self._others])}
