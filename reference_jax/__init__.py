"""The offline-RL agents in Flax linen and optax, written from their specification."""

from reference_jax.crl_infonce import CRLInfoNCEAgent
from reference_jax.fb_repr import FBReprAgent
from reference_jax.hilp import HILPAgent
from reference_jax.infom import InFOMAgent
from reference_jax.iql import IQLAgent
from reference_jax.td_infonce import TDInfoNCEAgent

agents = {
    'crl_infonce': CRLInfoNCEAgent,
    'fb_repr': FBReprAgent,
    'hilp': HILPAgent,
    'infom': InFOMAgent,
    'iql': IQLAgent,
    'td_infonce': TDInfoNCEAgent,
}
