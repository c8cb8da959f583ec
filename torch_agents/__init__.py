"""The offline-RL agents in PyTorch, ported from `reference_jax`."""

from torch_agents.crl_infonce import CRLInfoNCEAgent
from torch_agents.fb_repr import FBReprAgent
from torch_agents.hilp import HILPAgent
from torch_agents.infom import InFOMAgent
from torch_agents.iql import IQLAgent
from torch_agents.td_infonce import TDInfoNCEAgent

agents = {
    'crl_infonce': CRLInfoNCEAgent,
    'fb_repr': FBReprAgent,
    'hilp': HILPAgent,
    'infom': InFOMAgent,
    'iql': IQLAgent,
    'td_infonce': TDInfoNCEAgent,
}
