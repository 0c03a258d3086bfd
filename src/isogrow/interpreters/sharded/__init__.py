"""Growing a model that is spread over ranks: each fills its own parts, and fetches only what it lacks.

No rank ever has a whole tensor: what moves is planned by `isogrow.plans.moving`, and goes in rounds of
`exchanging.ROUND` bytes a rank.
"""
