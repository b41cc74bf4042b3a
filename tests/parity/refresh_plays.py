"""The plays of what capacity objects say: other answers of the driver, and volumes that come, fail and go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from csisidecar.csi import GetCapacityResponse
from csisidecar.testing.driver import ALL_CONTROLLER
from tests.parity.capacity_cast import (
    GIB,
    affinity,
    claim,
    items,
    node,
    settings,
    shows,
    storage_class,
    volume,
)
from tests.parity.capacity_stage import Play, Stage, Step

if TYPE_CHECKING:
    from csisidecar.csi import GetCapacityRequest
    from tests.parity.capacity_cast import Act

COMMON = ("--enable-capacity", "--kube-api-capacity-qps=100", "--kube-api-capacity-burst=200")
NEVER = (*COMMON, "--capacity-ownerref-level=-1", "--capacity-poll-interval=1h")
OFTEN = (*COMMON, "--capacity-ownerref-level=-1", "--capacity-poll-interval=500ms")
POLLS_S = 1.3
"""Two polls at least."""

WORLD = (
    *node("n1", zone="a"),
    *node("n2", zone="a"),
    *node("n3", zone="b"),
    storage_class("fast"),
    storage_class("slow"),
    storage_class("now", "Immediate"),
)
FOUR = items("fast slow", "ab")


# ---- answers


def answers(amounts: dict[str, int] | int, maximum: int | None = None, *, wait: tuple[str, ...] = ()) -> Act:
    """The driver says these amounts, by class and zone as in ``fast a``; waits for the objects, or for two polls."""

    async def tell(request: GetCapacityRequest) -> GetCapacityResponse:
        place = request.accessible_topology.segments if request.accessible_topology else {}
        where = f"{request.parameters['kind']} {place.get('zone', '')}"
        amount = amounts if isinstance(amounts, int) else amounts[where]
        return GetCapacityResponse(available_capacity=amount, maximum_volume_size=maximum)

    async def act(stage: Stage) -> None:
        stage.driver.tells = tell
        if wait:
            await stage.shows(*wait)
        else:
            await asyncio.sleep(POLLS_S)

    return act


async def poll_again(stage: Stage) -> None:
    del stage
    await asyncio.sleep(POLLS_S)


async def correct_value(stage: Stage) -> None:
    victim = (await stage.room("fast@zone=b"))["metadata"]["name"]
    await stage.edit("CSIStorageCapacity", victim, {"capacity": "7Gi"})
    await stage.shows(*(f"{item} 50Gi" for item in FOUR))


async def break_driver(stage: Stage) -> None:
    stage.driver.tells = None
    stage.driver.order("GetCapacity:Internal=no idea")
    await asyncio.sleep(POLLS_S)


async def mend_driver(stage: Stage) -> None:
    stage.driver.trouble.clear()
    await stage.shows(*(f"{item} 100Gi" for item in FOUR))


FIFTY = tuple(f"{item} 50Gi" for item in FOUR)
SIXTY = tuple(f"{item} 60Gi" for item in FOUR)
ODD = {"fast a": 1000, "fast b": 1536, "slow a": 1_000_000_000, "slow b": 1024}
ODD_TEXTS = ("fast@zone=a 1k", "fast@zone=b 1536", "slow@zone=a 1G", "slow@zone=b 1Ki")

ANSWERS = Play(
    name="answers",
    objects=WORLD,
    driver=settings(),
    flags=OFTEN,
    polls=True,
    steps=(
        Step(name="start", rows=("T-ROOM-02",), act=shows(*FOUR)),
        Step(name="other amount", rows=("T-ROOM-04", "T-WORK-07"), act=answers(50 * GIB, 10 * GIB, wait=FIFTY)),
        Step(name="same amount", rows=("T-ROOM-04",), act=poll_again),
        Step(name="foreign value", rows=("T-ROOM-04",), act=correct_value),
        Step(name="error", rows=("T-WORK-03",), act=break_driver),
        Step(name="error is over", rows=("T-WORK-03",), act=mend_driver),
        Step(
            name="no room",
            rows=("T-ROOM-03", "T-AMOUNT-01"),
            act=answers(0, 10 * GIB, wait=tuple(f"{item} 0" for item in FOUR)),
        ),
        Step(
            name="odd amounts",
            rows=("T-AMOUNT-03", "T-AMOUNT-05", "T-AMOUNT-06", "T-AMOUNT-08"),
            act=answers(ODD, 1, wait=ODD_TEXTS),
        ),
        Step(name="other maximum", rows=("T-AMOUNT-11",), act=answers(ODD, 0)),
        Step(name="no maximum", rows=("T-AMOUNT-10", "T-AMOUNT-11"), act=answers(ODD)),
        Step(name="negative amount", rows=("T-ROOM-06",), act=answers(-1)),
        Step(name="negative maximum", rows=("T-ROOM-06",), act=answers(50 * GIB, -1)),
        Step(name="negative is over", rows=("T-ROOM-04",), act=answers(60 * GIB, wait=SIXTY)),
    ),
)

NOTHING_YET = Play(
    name="no answer from the start",
    objects=WORLD,
    driver=settings(),
    trouble=("GetCapacity:Internal=no idea",),
    flags=NEVER,
    steps=(
        Step(name="start", rows=("T-WORK-03",), act=lambda stage: stage.hears("GetCapacity", 8)),
        Step(name="answers at last", rows=("T-WORK-03",), act=mend_driver),
    ),
)

UNDECLARED = Play(
    name="driver does not declare GET_CAPACITY",
    objects=WORLD,
    driver=settings(controller_capabilities=ALL_CONTROLLER - {"GET_CAPACITY"}),
    flags=NEVER,
    steps=(Step(name="start", rows=("T-QUIRK-06",), act=lambda stage: stage.hears("GetCapacity", 8)),),
)


# ---- volumes


def asks_for(
    claim_name: str, *, selected: str = "n1", class_name: str = "fast", trouble: str = "", wait: str = "", **more: Any
) -> Act:
    """A new claim; waits for its volume, or for an Event with `wait` in it when there is trouble."""

    async def act(stage: Stage) -> None:
        await calm(stage)
        if trouble:
            stage.driver.order(trouble)
        await stage.create(claim(claim_name, selected, class_name=class_name, **more))
        if wait:
            await stage.tells(wait)
        else:
            await stage.volume_of(claim_name)

    return act


async def calm(stage: Stage) -> None:
    """What failed before goes well now; what comes of that was not asked for."""
    if any(order.method == "CreateVolume" for order in stage.driver.trouble.orders):
        stage.driver.trouble.clear()
        for each in await stage.found("PersistentVolumeClaim"):
            if each["metadata"]["name"].startswith("late-"):
                await stage.volume_of(each["metadata"]["name"])
        await stage.quiet(polls=False)
    stage.forget()


def deletes(name: str, where: Any, *, trouble: str = "", **more: Any) -> Act:
    """A released volume of the driver's; waits for the call."""

    async def act(stage: Stage) -> None:
        await calm(stage)
        if trouble:
            stage.driver.order(trouble)
        await stage.create(volume(name, where, **more))
        await stage.hears("DeleteVolume")
        if trouble:
            await asyncio.sleep(0.3)
            await stage.edit("PersistentVolume", name, {"metadata": {"finalizers": None}})
            await stage.delete("PersistentVolume", name)

    return act


async def keep(stage: Stage) -> None:
    await calm(stage)
    await stage.create(volume("kept", IN_A, persistentVolumeReclaimPolicy="Retain"))
    await asyncio.sleep(0.5)


IN_A = affinity([("zone", "In", ["a"])])
ODD_TERMS = affinity(
    [("zone", "In", ["a", "b"])], [("zone", "NotIn", ["a"])], [("zone", "Exists", [])], [("zone", "In", ["b"])]
)
FIELDS = affinity([("zone", "In", ["zz"])], [("zone", "In", ["a"]), ("rack", "In", ["r"])], [("zone", "In", ["b"])])
FIELDS["required"]["nodeSelectorTerms"][2]["matchFields"] = [
    {"key": "metadata.name", "operator": "In", "values": ["n1"]}
]
SECRET = {
    "kind": "secret",
    "csi.storage.k8s.io/provisioner-secret-name": "nobody",
    "csi.storage.k8s.io/provisioner-secret-namespace": "default",
}

REFRESH = Play(
    name="volumes with places",
    objects=(*WORLD, {**storage_class("secret"), "parameters": SECRET}),
    driver=settings(),
    volumes=("handle-d1", "handle-d2", "handle-d3", "handle-d4", "handle-d5"),
    flags=NEVER,
    steps=(
        Step(name="start", rows=("T-ROOM-13",), act=shows(*items("fast slow secret", "ab"))),
        Step(name="volume made", rows=("T-REFRESH-01",), act=asks_for("made")),
        Step(
            name="not even asked for",
            rows=("T-REFRESH-06",),
            act=asks_for("unasked", class_name="secret", wait="ProvisioningFailed"),
        ),
        Step(name="volume deleted", rows=("T-REFRESH-09",), act=deletes("d1", IN_A)),
        Step(name="deleted without affinity", rows=("T-REFRESH-11",), act=deletes("d2", None)),
        Step(
            name="terms that name no segment",
            rows=("T-REFRESH-10", "T-REFRESH-13", "T-REFRESH-14"),
            act=deletes("d3", ODD_TERMS),
        ),
        Step(name="terms of several keys and fields", rows=("T-REFRESH-12", "T-REFRESH-15"), act=deletes("d5", FIELDS)),
        Step(name="kept volume", rows=("T-REFRESH-17",), act=keep),
        Step(
            name="refused",
            rows=("T-REFRESH-03",),
            act=asks_for("late-refused", trouble="CreateVolume:Internal=no", wait="= no"),
        ),
        Step(
            name="outcome unknown",
            rows=("T-REFRESH-04",),
            act=asks_for("late-unknown", trouble="CreateVolume:Unavailable=hm", wait="= hm"),
        ),
        Step(
            name="no room",
            rows=("T-REFRESH-05",),
            act=asks_for("full", trouble="CreateVolume:ResourceExhausted=full", wait="= full"),
        ),
        Step(name="not deleted", rows=("T-REFRESH-16",), act=deletes("d4", IN_A, trouble="DeleteVolume:Internal=no")),
        # Tried again all the time, so it comes late.
        Step(
            name="never to be served",
            rows=("T-REFRESH-07",),
            act=asks_for("selecting", class_name="slow", selector={"matchLabels": {"a": "b"}}, wait="elector"),
        ),
        Step(
            name="left to a populator",
            rows=("T-REFRESH-08",),
            act=asks_for(
                "populated", dataSourceRef={"apiGroup": "p.test", "kind": "Populator", "name": "p"}, wait="populator"
            ),
        ),
    ),
)

WITHOUT_PLACES = Play(
    name="volumes without places",
    objects=WORLD,
    driver=settings(plugin_capabilities=frozenset({"CONTROLLER_SERVICE"}), topology={}, places=()),
    flags=NEVER,
    steps=(
        Step(name="start", rows=("T-ROOM-13",), act=shows(*FOUR)),
        Step(name="volume made", rows=("T-REFRESH-02", "T-SEGMENT-13"), act=asks_for("made")),
        Step(
            name="refused",
            rows=("T-REFRESH-03",),
            act=asks_for("late-refused", trouble="CreateVolume:OutOfRange=no", wait="= no"),
        ),
    ),
)

WIDER = Play(
    name="volumes of wider places",
    objects=(
        *node("n1", ("region", "zone"), region="r", zone="a"),
        storage_class("fast"),
        storage_class(
            "now",
            "Immediate",
            allowedTopologies=[{"matchLabelExpressions": [{"key": "region", "values": ["r"]}]}],
        ),
    ),
    driver=settings(topology={"region": "r"}, places=({"region": "r"},)),
    flags=NEVER,
    steps=(
        Step(name="start", rows=("T-ROOM-13",), act=shows("fast@region=r,zone=a")),
        Step(name="volume made", rows=("T-REFRESH-18",), act=asks_for("made", selected="", class_name="now")),
    ),
)

PLAYS = (ANSWERS, NOTHING_YET, UNDECLARED, REFRESH, WITHOUT_PLACES, WIDER)
