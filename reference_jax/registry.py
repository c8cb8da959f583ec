"""All agents by name."""

from reference_jax.crl_infonce import CRLInfoNCEAgent
from reference_jax.dino_rebrac import DINOReBRACAgent
from reference_jax.fb_repr import FBReprAgent
from reference_jax.hilp import HILPAgent
from reference_jax.infom import InFOMAgent
from reference_jax.iql import IQLAgent
from reference_jax.mbpo_rebrac import MBPOReBRACAgent
from reference_jax.rebrac import ReBRACAgent
from reference_jax.td_infonce import TDInfoNCEAgent

agents = {
    'crl_infonce': CRLInfoNCEAgent,
    'dino_rebrac': DINOReBRACAgent,
    'fb_repr': FBReprAgent,
    'hilp': HILPAgent,
    'infom': InFOMAgent,
    'iql': IQLAgent,
    'mbpo_rebrac': MBPOReBRACAgent,
    'rebrac': ReBRACAgent,
    'td_infonce': TDInfoNCEAgent,
}
