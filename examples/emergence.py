"""Watch one concept world become linear: excess loss, parallelism and alignment against training step.

python examples/emergence.py
"""

import numpy as np

from linrep import ConceptGraph, ContextLaw, World, fit
from linrep.geometry.metrics import alignment, parallelism

world = World(ConceptGraph.random(4, seed=0), ContextLaw.at_most(2))
trained = fit(world, dim=8, steps=5000, initial_scale=0.01, n_snapshots=10)
tokens, contexts = world.token_pairs(), world.context_pairs()

print(f"{world.name}: {world.n_contexts} contexts, {world.n_tokens} tokens, d = 8")
print("  step  excess (nats)  parallelism  alignment")
for k, step in enumerate(trained.steps.tolist()):
    gamma, lam = trained.unembeddings[0, k], trained.embeddings[0, k]
    deltas = [np.subtract(*gamma[tokens.of(name).T[::-1]]) for name in tokens.names]
    context_deltas = [np.subtract(*lam[contexts.of(name).T[::-1]]) for name in contexts.names]
    parallel = np.mean([parallelism(d) for d in deltas])
    aligned = np.mean([alignment(c, d) for c, d in zip(context_deltas, deltas, strict=True)])
    print(f"{step:6d}  {trained.excess[0, k]:13.4f}  {parallel:11.3f}  {aligned:9.3f}")
