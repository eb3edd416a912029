"""A plan for people, for programs, and as the Helm chart's values."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from .plan import Load, Plan

_QUEUE = (
    "p99: M/G/1 served in runs of up to K, Poisson arrivals (Kendall 1953, Bailey 1954, Neuts 1967)",
    "p99: M/G/c served in runs of up to K, by the recursion of Kiefer and Wolfowitz 1955",
)


def lines(plan: Plan) -> Iterator[str]:
    """Yields the plan for people."""
    goal, curve, service = plan.goal, plan.curve, plan.service
    yield f"{curve.model} version {curve.version}: {goal.rate_per_s:,g} requests/s with p99 of {goal.p99_s * 1e3:g} ms"
    yield ""
    lost = f", of which {goal.spare_pods} may be lost" if goal.spare_pods else ""
    yield f"  pods        {plan.pods}{lost}"
    limit = "throughput" if plan.is_limited_by_throughput else "p99"
    yield f"  per pod     {plan.highest_per_s:,.0f} requests/s, limited by {limit}; at most {service.most_per_s:,.0f}"
    yield f"  CPU         {_cpu(plan)}"
    yield f"  memory      {_memory(plan)}"
    yield f"  autoscaling {plan.pods} to {plan.most_pods} pods, {plan.target_waiting:g} requests waiting per pod"
    yield ""
    yield "  per pod         requests/s   busy    requests/run  waiting    p99 ms"
    yield _row("with all", plan.normal)
    if goal.spare_pods:
        yield _row(f"with {plan.reduced.pods} left", plan.reduced)
    yield ""
    yield "How it is computed:"
    yield from (f"- {line}" for line in formulas(plan))


def formulas(plan: Plan) -> Iterator[str]:
    """Yields what each figure is computed by, with its source."""
    service = plan.service
    yield (
        f"a run of n requests takes {service.fixed_s * 1e3:.3g} ms + n × {service.per_request_s * 1e3:.3g} ms, n up to "
        f"{service.limit}: least squares over the curve; outside the pod: {service.outside_s * 1e3:.3g} ms"
    )
    yield _QUEUE[service.sessions > 1]
    yield "requests waiting: rate × mean wait (Little 1961), the metric that the chart's autoscaler reads"
    if plan.busy_cores is not None and plan.cpu_s_per_request is not None:
        yield (
            f"CPU: {plan.cpu_s_per_request * 1e3:.3g} ms per request × {plan.reduced.rate_per_s:,.4g} requests/s / "
            f"{plan.reduced.utilisation:.2f} busy = {plan.busy_cores:.2f} cores while computing, as whole cores"
        )
    if plan.memory_parts_mib is not None:
        yield "memory: " + " + ".join(f"{mib:,} ({what})" for what, mib in plan.memory_parts_mib.items()) + " MiB"
    yield "arrivals at a pod are assumed random; docs/scaling.md says which balancers satisfy this"
    if plan.curve.is_of_pictures:
        yield (
            "the p99 leaves out how the threads that decode pictures hold each other up (a factor of four was seen "
            "with a small model); try a pod at its rate: "
            f"pixelserve bench --model {plan.curve.model} --rate {plan.reduced.rate_per_s:.0f}"
        )


def helm_values(plan: Plan) -> Iterator[str]:
    """Yields values for the chart, as YAML."""
    goal = plan.goal
    yield f"# {goal.rate_per_s:g} requests/s with p99 of {goal.p99_s * 1e3:g} ms; spare pods: {goal.spare_pods}"
    yield f"replicas: {plan.pods}"
    resources = {"cpu": plan.cores and f'"{plan.cores}"', "memory": plan.memory_mib and f"{plan.memory_mib}Mi"}
    known = ", ".join(f"{name}: {value}" for name, value in resources.items() if value)
    if known:
        yield "resources:"
        yield f"  requests: {{{known}}}"
        yield f"  limits: {{{known}}}"
    yield "autoscaling:"
    yield "  enabled: true"
    yield f"  minReplicas: {plan.pods}"
    yield f"  maxReplicas: {plan.most_pods}"
    yield f"  targetWaiting: {plan.target_waiting:g}"


def as_json(plan: Plan) -> dict[str, Any]:
    """Returns everything, times in milliseconds."""
    return {
        "model": plan.curve.model,
        "version": plan.curve.version,
        "goal": {
            "requests_per_s": plan.goal.rate_per_s,
            "p99_ms": round(plan.goal.p99_s * 1e3, 6),
            "spare_pods": plan.goal.spare_pods,
        },
        "pods": plan.pods,
        "limited_by": "throughput" if plan.is_limited_by_throughput else "p99",
        "pod": {
            "requests_per_s": round(plan.highest_per_s, 3),
            "most_requests_per_s": round(plan.service.most_per_s, 3),
            "cpu_cores": plan.cores,
            "cpu_ms_per_request": None if plan.cpu_s_per_request is None else round(plan.cpu_s_per_request * 1e3, 6),
            "memory_mib": plan.memory_mib,
        },
        "autoscaling": {"min": plan.pods, "max": plan.most_pods, "target_waiting": plan.target_waiting},
        "with_all_pods": _load_json(plan.normal),
        "with_spare_pods_lost": _load_json(plan.reduced),
        "formulas": list(formulas(plan)),
    }


def _load_json(load: Load) -> dict[str, Any]:
    found = asdict(load)
    found["p99_ms"] = found.pop("p99_s") * 1e3
    found["requests_per_s"] = found.pop("rate_per_s")
    return {name: round(value, 6) for name, value in found.items()}


def _row(name: str, load: Load) -> str:
    return (
        f"  {name:<15} {load.rate_per_s:>10,.1f} {load.utilisation:>5.0%} {load.requests_per_run:>15.2f} "
        f"{load.waiting:>8.2f} {load.p99_s * 1e3:>9.2f}"
    )


def _cpu(plan: Plan) -> str:
    if plan.cores is None:
        return "not measured: measure the curve with --metrics-url"
    return f"{plan.cores} core" + ("s" if plan.cores > 1 else "")


def _memory(plan: Plan) -> str:
    return (
        "not measured: measure the curve with --metrics-url" if plan.memory_mib is None else f"{plan.memory_mib:,} MiB"
    )
