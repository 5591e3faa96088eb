"""The few kinds of panel that the dashboards are made of, with Grafana's own builders."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models

_DATASOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
_FULL: Final = 24


class Unit(StrEnum):
    """Grafana's names of units."""

    SHARE = "percentunit"
    SECONDS = "s"
    PER_SECOND = "cps"
    COUNT = "short"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class Line:
    """A query, and what its lines are called: {{label}} stands for a label's value."""

    query: str
    legend: str = ""


def lines(
    title: str, says: str, unit: Unit, *of: Line, width: int = 8, stacked: bool = False, most: float | None = None
) -> timeseries.Panel:
    """Return a panel of lines over time; `says` is what a newcomer should read out of it."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(says)
        .datasource(_DATASOURCE)
        .unit(unit.value)
        .min(0)
        .span(width)
        .height(8)
        .fill_opacity(10 if not stacked else 40)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel = panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if most is not None:
        panel = panel.thresholds(_above(most)).thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    for target in _targets(of):
        panel = panel.with_target(target)
    return panel


def figure(
    title: str,
    says: str,
    unit: Unit,
    query: str,
    *,
    least: float | None = None,
    most: float | None = None,
    width: int = 4,
    legend: str = "",
) -> stat.Panel:
    """Return a panel with the last value, red below `least` or above `most`."""
    panel = (
        stat.Panel()
        .title(title)
        .description(says)
        .datasource(_DATASOURCE)
        .unit(unit.value)
        .span(width)
        .height(5)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(common.BigValueColorMode.VALUE)
    )
    if least is not None:
        panel = panel.thresholds(_below(least))
    elif most is not None:
        panel = panel.thresholds(_above(most))
    return panel.with_target(_target(Line(query, legend), "A"))


def distribution(title: str, says: str, query: str, *, width: int = 12) -> heatmap.Panel:
    """Return a heat map of a histogram's buckets; `query` sums their rates by le."""
    target = _target(Line(query, "{{le}}"), "A").format(prometheus_models.PromQueryFormat.HEATMAP)
    return (
        heatmap.Panel()
        .title(title)
        .description(says)
        .datasource(_DATASOURCE)
        .calculate(False)
        .span(width)
        .height(8)
        .with_target(target)
    )


def row(title: str) -> dashboard.Row:
    """Return a heading."""
    return dashboard.Row(title)


def board(uid: str, title: str, says: str, *, variables: Sequence[dashboard.QueryVariable] = ()) -> dashboard.Dashboard:
    """Return an empty dashboard: six hours, refreshed each minute, with a choice of the Prometheus."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(says)
        .tags(["finid"])
        .time("now-6h", "now")
        .refresh("1m")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("FinID").type(models.DashboardLinkType.DASHBOARDS).tags(["finid"]).as_dropdown(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for variable in variables:
        made = made.with_variable(variable)
    return made


def choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """Return a variable with the values of a label; all of them by default."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(_DATASOURCE)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    )


def _targets(of: Sequence[Line]) -> list[prometheus.Dataquery]:
    return [_target(line, chr(ord("A") + index)) for index, line in enumerate(of)]


def _target(line: Line, ref_id: str) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(line.query).ref_id(ref_id).datasource(_DATASOURCE)
    return made.legend_format(line.legend or "__auto")


def _above(most: float) -> dashboard.ThresholdsConfig:
    return _steps("green", most, "red")


def _below(least: float) -> dashboard.ThresholdsConfig:
    return _steps("red", least, "green")


def _steps(before: str, at: float, after: str) -> dashboard.ThresholdsConfig:
    steps = [models.Threshold(value=None, color=before), models.Threshold(value=at, color=after)]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
