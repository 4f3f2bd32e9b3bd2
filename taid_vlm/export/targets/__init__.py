"""The stock classes that can hold a student, one file each."""

from taid_vlm.common.registry import Registry
from taid_vlm.export.targets.deepseek_vl import DEEPSEEK_VL
from taid_vlm.export.targets.fast_vlm import FAST_VLM
from taid_vlm.export.targets.internvl import INTERNVL
from taid_vlm.export.targets.lfm2_vl import LFM2_VL
from taid_vlm.export.targets.llava import LLAVA
from taid_vlm.export.targets.perception_lm import PERCEPTION_LM
from taid_vlm.export.targets.smolvlm import SMOLVLM
from taid_vlm.export.targets.target import Native, Obstacle, Target

__all__ = ["TARGETS", "Native", "Obstacle", "Target"]

TARGETS: Registry[Target] = Registry("kind of checkpoint")
# In the order in which ``auto`` tries them: first what most runtimes know.
for _target in (SMOLVLM, INTERNVL, LLAVA, DEEPSEEK_VL, FAST_VLM, PERCEPTION_LM, LFM2_VL):
    TARGETS.register(_target.name)(_target)
