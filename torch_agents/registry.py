"""All agents by name."""

from torch_agents.crl_infonce import CRLInfoNCEAgent
from torch_agents.dino_rebrac import DINOReBRACAgent
from torch_agents.fb_repr import FBReprAgent
from torch_agents.hilp import HILPAgent
from torch_agents.infom import InFOMAgent
from torch_agents.iql import IQLAgent
from torch_agents.mbpo_rebrac import MBPOReBRACAgent
from torch_agents.rebrac import ReBRACAgent
from torch_agents.td_infonce import TDInfoNCEAgent

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
