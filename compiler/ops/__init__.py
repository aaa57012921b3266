"""All operations, by family. Importing this package registers every one of them."""

from compiler.ops.activation import *  # noqa: F403  # the package is the sum of its families
from compiler.ops.attention import *  # noqa: F403
from compiler.ops.bits import *  # noqa: F403
from compiler.ops.conv import *  # noqa: F403
from compiler.ops.deform import *  # noqa: F403
from compiler.ops.elementwise import *  # noqa: F403
from compiler.ops.generate import *  # noqa: F403
from compiler.ops.index import *  # noqa: F403
from compiler.ops.integer import *  # noqa: F403
from compiler.ops.layout import *  # noqa: F403
from compiler.ops.matmul import *  # noqa: F403
from compiler.ops.norm import *  # noqa: F403
from compiler.ops.parts import *  # noqa: F403
from compiler.ops.pool import *  # noqa: F403
from compiler.ops.quant import *  # noqa: F403
from compiler.ops.recurrent import *  # noqa: F403
from compiler.ops.reduce import *  # noqa: F403
from compiler.ops.region import *  # noqa: F403
from compiler.ops.resize import *  # noqa: F403
from compiler.ops.sampling import *  # noqa: F403
from compiler.ops.search import *  # noqa: F403
from compiler.ops.shape import *  # noqa: F403
from compiler.ops.softmax import *  # noqa: F403
from compiler.ops.spectral import *  # noqa: F403
