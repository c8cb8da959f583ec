"""A divergence made by hand, with every part that a view shows."""

from parity.comparison import Leaf
from parity.locating.causes import Cause
from parity.locating.divergence import Divergence, Finding, Place
from parity.locating.draws import Draw, DrawFinding
from parity.locating.layers import LayerRow
from parity.locating.reach import ReachCell
from parity.locating.updates import UpdateFinding
from parity.verdict import StageResult

LEAF = Leaf('train/loss', 'value', 'f64[] 1.', 'f64[] 2.', 1.0, 1e-14, 1e14, (), 'noise')
ROWS = (
    LayerRow('net', 0, 0, None, 'carrier', 'match'),
    LayerRow('net/up', 0, 1, 0, 'match', 'match'),
    LayerRow('net/norm', 0, 2, 0, 'culprit', 'match', 'outputs/output', error=0.5, allowed=1e-14),
    LayerRow('other', 0, 3, None, 'match', 'match'),
    LayerRow('other/up', 0, 4, 3, 'match', 'match'),
)
FOUND = Divergence(
    pair='toy',
    case='seed 3',
    command='parity locate toy --seed 3',
    stages=(StageResult('loss', 'float64', 'mismatch', (LEAF,), hidden=4),),
    findings=(
        Finding(
            rank=1,
            kind='module',
            stage='loss',
            loss='train',
            port=Place('/a/port.py', 12, 'Net.forward', 'x = self.norm(x)'),
            reference=Place('/a/reference.py', 7, 'Net.__call__', 'x = LayerNorm()(x)'),
            why='computed otherwise',
            port_value='f64[3] mean 2',
            reference_value='f64[3] mean 1',
            difference=0.5,
            allowed=1e-11,
            agreed=('f64[3] of x',),
            reaches=('loss',),
            modules=('net/norm',),
            cause=Cause('normalisation epsilon', 'LayerNorm.eps = 1e-06 instead of 1e-05', 1e9, 0.1, 1),
        ),
    ),
    modules={'train': ROWS},
    reach=(
        ReachCell('train', 'loss', 'net', True, True),
        ReachCell('train', 'loss', 'target', False, True),
    ),
    explained=True,
    seconds=1.0,
)

_KEYS = (
    Draw('normal', (5,), 'float32', (1, 2), 'port.py:3', ''),
    Draw('normal', (5,), 'float32', (3, 4), 'reference.py:4', ''),
)
DRAW = DrawFinding('key', 1, *_KEYS, 'draw 1 has another key')
UPDATE = UpdateFinding(
    'wrong rate', 'tau is 0.5 instead of 0.005', ('step1 finetune',), ('net/up/kernel',), 0.2
)
