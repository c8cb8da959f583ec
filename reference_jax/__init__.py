"""The offline-RL agents in Flax linen and optax, written from their specification."""

from reference_jax.checkpoints import load, save
from reference_jax.crl_infonce import CRLInfoNCEAgent
from reference_jax.dino_rebrac import DINOReBRACAgent
from reference_jax.fb_repr import FBReprAgent
from reference_jax.hilp import HILPAgent
from reference_jax.infom import InFOMAgent
from reference_jax.iql import IQLAgent
from reference_jax.mbpo_rebrac import MBPOReBRACAgent
from reference_jax.rebrac import ReBRACAgent
from reference_jax.td_infonce import TDInfoNCEAgent

__all__ = ['agents', 'load', 'save']

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
