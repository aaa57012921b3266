"""Move whole regions into (B, C, 1, S): dense layers become 1x1 convolutions, attention goes head by head on channels.

Reshapes and transposes inside a region only rename factors of axes and vanish; what is left stands at its borders. The
form is that of "Deploying Transformers on the Apple Neural Engine" (Apple, 2022).
"""

from __future__ import annotations

from compiler.graph import Graph
from compiler.pass_base import Pass, replace_layer
from compiler.rewrite import Meter, Observer
from passes._bc1s_attention import Settings
from passes._bc1s_cost import Rates
from passes._bc1s_regions import Region, written
from passes._bc1s_verdict import Verdict, totals, weighed


class ChannelsFirst(Pass):
    """Regions in channels-first form, where an estimate says that this saves time. The parts of an attention take more
    multiply-accumulates than the whole is said to.

    macs, bytes, layer_us, row_bytes   the constants of the estimate, see Rates
    least_gain, least_products         what is asked of a region
    """

    adds_work = True
    macs: tuple[float, float, float] = (8.08e6, 5.29e6, 1.87e6)
    bytes: tuple[float, float, float, float, float, float] = (50e3, 36.5e3, 34.4e3, 100e3, 51e3, 224e3)
    layer_us: float = 0.5
    row_bytes: int = 64
    least_gain: float = 0.05
    least_products: int = 2
    mask_value: float = -4e4
    probability_scale: float = 64.0
    many_keys: int = 1024
    query_chunk: int = 576
    working_set: int = 2_000_000

    def run(self, graph: Graph, observer: Observer) -> int:
        settings = Settings(self.mask_value, self.probability_scale, self.many_keys, self.query_chunk, self.working_set)
        walk = written(graph, settings)
        rates = Rates(*self.macs, *self.bytes, self.layer_us, self.row_bytes)
        found = [(region, weighed(region, rates)) for region in walk.regions()]
        done = [v for region, v in found if v.products and self._moved(graph, region, v, observer)]
        walk.clear()
        if isinstance(observer, Meter):
            observer.measured("regions", totals(done))
        return len(done)

    def _moved(self, graph: Graph, region: Region, verdict: Verdict, observer: Observer) -> bool:
        reason = verdict.against(self.least_products, self.least_gain)
        if reason:
            observer.skipped(self.pass_name(), region.layers[0], f"{verdict}: {reason}")
            return False
        done = replace_layer(graph, str(verdict), region.old, region.new, region.written, observer) is not None
        graph.erase_unread(reversed(region.layers) if done else ())
        return done
