"""Theory and analysis made runnable: each question of ``taid-vlm analyze`` is answered by numbers, sentences and charts.

A module computes, its neighbour says what was found: ``rounds`` and ``regression``, ``replay`` and ``schedule``, ``masses`` and ``mass``,
``wobble`` and ``variance``, ``teacher_sizes`` and ``gap``.
"""
