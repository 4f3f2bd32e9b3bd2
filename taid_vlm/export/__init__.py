"""Students as checkpoints that stock runtimes load, each proven by reloading in a fresh process.

* ``plan``: which runtimes will load a student, told before it is trained.
* ``targets``: the stock classes; ``custom``: the fallback with code of its own; ``towers``: encoders as transformers' classes.
* ``write``, ``processors``, ``card``, ``record``: the folder. ``probes``, ``gate``, ``fresh_process``: the proof.
* ``publish``: its way to the hub.
"""

from taid_vlm.export.plan import ExportPlan, RuntimeVerdict, export_plan
from taid_vlm.export.record import Exported
from taid_vlm.export.write import export_student

__all__ = ["ExportPlan", "Exported", "RuntimeVerdict", "export_plan", "export_student"]
