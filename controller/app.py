"""The Ryu application: puts the parts together and passes Ryu's events on. There is no logic here.

`python -m controller --config-file FILE` runs it. With Ryu's own command it is

    ryu-manager --config-file FILE controller.app

where addresses and ports come from FILE too, so that none of ryu-manager's own flags is needed. The ryu-manager that
this project installs is controller.compat's: Ryu's own does not start on an eventlet of today.
"""

from __future__ import annotations

from controller import compat

compat.install()  # before Ryu is imported

# ruff: noqa: E402
import functools
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import eventlet
import structlog
from prometheus_client import CollectorRegistry
from ryu.base.app_manager import RyuApp
from ryu.controller import ofp_event
from ryu.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls

from agent.service_manager import ServiceManager
from controller import (
    advertiser,
    arrivals,
    audit,
    background,
    config,
    gateway_watch,
    holders,
    journal_watch,
    logs,
    object_names,
    process_metrics,
)
from controller.advertiser import Advertiser
from controller.announcer import Announcer
from controller.api import stats
from controller.api.gate import make_app
from controller.api.server import ApiServer
from controller.api.services import Services
from controller.api.token_keeper import KEPT_DAYS, LOOK_PERIOD, USED_PERIOD, TokenKeeper
from controller.arrivals import Arrivals
from controller.background import HoldKeeper, LeaseWriter, NeighbourWatch
from controller.cluster.keeper import Cluster
from controller.cluster.metrics import ClusterCollector
from controller.cluster.reach import Reach
from controller.connection_factory import ConnectionFactory
from controller.dns.build import build as build_dns
from controller.dns.metrics import DnsCollector
from controller.dns.tcp import Questions
from controller.dns.transfer import TransferServer
from controller.drops import Drops
from controller.errands import Errands
from controller.events.changes import Changes
from controller.events.drop_watch import DropWatch
from controller.events.feed import Feed
from controller.events.ring import Events
from controller.full_zones import FullZones, FullZonesCollector, ports_by_zone
from controller.gateway_watch import GatewayWatch
from controller.holders import Holders
from controller.hub_watch import HubWatch
from controller.journal_watch import JournalWatch
from controller.live_tracing import LiveTracing
from controller.metadata.service import MetadataService
from controller.mutes import Mutes
from controller.packet_in.dhcp import DhcpServer
from controller.packet_in.dispatch import Dispatcher
from controller.packet_in.floods import Mute
from controller.packet_in.leases import LeaseLog
from controller.packet_in.services import Limit, limits
from controller.packet_in.services import Services as PacketInServices
from controller.packet_in.unresolved import Unresolved
from controller.planning import Planner
from controller.port_counters import PortCollector, PortCounters
from controller.readiness import Readiness, ReadinessCollector
from controller.receive import VERSION
from controller.resolver import Resolver
from controller.session_counters import Counters, SessionCollector
from controller.session_registry import SessionRegistry
from controller.snapshots import SnapshotKeeper
from controller.store import Store, occupation
from controller.store.cluster import CONFIRMED, LEASES, Own
from controller.store.cluster_store import ClusterStore
from controller.store.notifications import Listener
from controller.store.postgresql import JOURNAL
from controller.tls_context import ServerTls
from flows.model import Change, Neighbour
from flows.snapshot import Snapshot


class Trunkline(RyuApp):  # type: ignore[misc]
    """Everything is built before Ryu starts to listen: a switch that connects finds its flows computed."""

    OFP_VERSIONS = [VERSION]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = config.read()
        config.apply_to_ryu(settings)
        self._known: Callable[[], Snapshot] = lambda: Snapshot(0)
        logs.configure(settings.log_format, settings.log_level, name_of=self._object_name)
        self.counters = Counters()
        registry = CollectorRegistry()
        process_metrics.register(registry)
        self._occupied = occupation.occupy(settings.database_url)
        self.store = Store(
            settings.database_url,
            vlan_range=settings.vlan_range,
            on_commit=lambda _: self._written(),
            auto_assign_pool=settings.auto_assign_pool,
            limits=settings.limits,
            holds=settings.holds,
        )
        self.keeper = SnapshotKeeper(self.store, self.counters, drop_private=settings.drop_private)
        self._known = self.keeper.snapshot
        confirmations = self.keeper.confirmations
        confirmations.time_by(process_metrics.confirm_seconds(registry).observe)
        events = Events()
        self._feed = Feed(events, self.keeper.snapshot, confirmations.port_active)
        self._changes = Changes(events, self.store, self.keeper.snapshot)
        confirmations.tell_progress(self._feed.progressed)
        self._journal_watch = JournalWatch(
            self.store, lambda: self.keeper.current.revision, self.keeper.wake, lambda: os._exit(os.EX_TEMPFAIL)
        )
        self._listener = None
        if self.store.shared:
            channels = {JOURNAL: self._journal_watch.told, LEASES: self._told, CONFIRMED: self._told}
            self._listener = Listener(settings.database_url, channels, self.keeper.wake)
        self._leases = LeaseLog()
        self._lease_writer = LeaseWriter(self._leases, self.store, self.keeper.snapshot)
        self._neighbours = NeighbourWatch(self.store, self.keeper.snapshot, lambda: self.sessions.live())
        unresolved = Unresolved(self.counters.packet_in_outcomes)
        self._resolver = Resolver(unresolved, self.keeper.snapshot, lambda *packet: self.sessions.send(*packet))
        self._mutes = Mutes(self.keeper.snapshot)
        dhcp = DhcpServer(single_default_gateway=settings.single_default_gateway)
        name_server, forwarder = build_dns(settings.dns)
        self._packet_in_services = PacketInServices(
            snapshot=self.keeper.snapshot,
            leases=self._leases,
            dhcp=dhcp,
            neighbour_seen=self._neighbour_seen,
            unresolved=unresolved,
            packet_kept=self._resolver.packet_kept,
            told=self._feed.lease,
            arrived=lambda port_id, node: self._arrivals.arrived(port_id, node),
            holds=lambda place, claim: self._holders.heard(place, claim),
            counters=self.counters.packet_in_outcomes,
            took=process_metrics.packet_in_seconds(registry).observe,
            dns=name_server,
            send=lambda *packet: self.sessions.send(*packet),
            limits=limits(
                settings.packet_in_rate, settings.packet_in_burst, Limit(settings.dns.rate, settings.dns.burst)
            ),
            log_sample=settings.connection_sample,
            mute=settings.packet_in_mute,
            muted=self._muted,
        )
        self._name, self._api_url = settings.cluster.name, settings.cluster.api_url
        self._started_at = time.time()
        self._cluster = self._join(settings) if self.store.shared else None
        self.sessions = SessionRegistry(self.keeper, self._dispatcher, self.counters, self._cluster, self._feed.of_node)
        self.keeper.attach(self.sessions)
        if self._cluster is not None:
            self._cluster.attach(self.sessions, self.keeper.confirmed_elsewhere)
            self.keeper.tell_others(self._cluster.confirmed)
            self._cluster.tell_members(self._feed.controllers)
        self._announcer = Announcer(self.keeper.snapshot, self.keeper.holds, self.sessions.send)
        self.keeper.announce_by(self._announcer.claimed)
        self._advertiser = Advertiser(
            self.keeper.snapshot, self.sessions.live, self.sessions.send, dhcp.leads_out, self.counters
        )
        self.keeper.tell(self._followed)
        self._arrivals = Arrivals(self.store, self.keeper.snapshot, confirmations.port_active, self.sessions.send)
        self._holders = Holders(
            self.store, self.keeper.snapshot, self.sessions.live, confirmations.port_active, self.sessions.send
        )
        self._gateway_watch = GatewayWatch(
            self.store,
            self.keeper.snapshot,
            lambda: iter(self.sessions),
            self.sessions.send,
            leads=self._leads,
            elsewhere=self._connected_elsewhere,
        )
        self._holds = HoldKeeper(self.store, leads=self._leads)
        drop_watch = DropWatch(self._feed.dropping, self._feed.dropping_more)
        self._audit = audit.FlowAudit(
            self.sessions.live, self.keeper.settled, self.sessions.ask, self.counters, drop_watch
        )
        self._release_delay = settings.gateway_release_delay
        self._history_days = settings.history_days
        self._audit_days = settings.audit_days
        registry.register(
            SessionCollector(self.counters, self.sessions.quarantined, self.sessions.parked, confirmations.unconfirmed)
        )
        drops = Drops(self.sessions.ask, owners=self._zone_owners)
        port_counters = PortCounters(self.sessions.ask, drops)
        registry.register(self._mutes)
        registry.register(ClusterCollector(self._leads, self.sessions.mastered, self._cluster))
        registry.register(DnsCollector(lambda: name_server.counts, forwarder))
        registry.register(PortCollector(port_counters, self.keeper.snapshot, self.sessions.nodes))
        full_zones = FullZones(self._feed.full)
        registry.register(FullZonesCollector(full_zones, self.keeper.snapshot))
        self._tokens = TokenKeeper(self.store, settings.credentials)
        if not self._tokens:
            structlog.get_logger().warning("no_tokens", effect="nobody can use the API", option="[auth] token")
        readiness = Readiness(
            self.store.look,
            lambda: self.keeper.current.revision,
            lambda: self._cluster is None or self._cluster.in_touch,
        )
        errands = Errands()
        services = Services(
            store=self.store,
            snapshot=self.keeper.snapshot,
            confirmations=confirmations,
            port_active=confirmations.port_active,
            floating_ip_active=confirmations.floating_ip_active,
            node_state=self._node_state,
            config=settings,
            metadata=MetadataService(self.store, self.keeper.snapshot, settings.metadata, registry),
            tokens=self._tokens,
            registry=registry,
            datapaths=self.sessions.connections,
            port_counters=port_counters.of_port,
            port_mutes=self._mutes.of_port,
            settle_leases=self._lease_writer.write,
            not_compiled=self.keeper.not_compiled,
            controllers=self._controllers,
            ready=readiness.checks,
            events=events,
            drops=drops,
            planner=Planner(self.store, self.keeper.programs),
            programs=self.keeper.programs,
            live_trace=LiveTracing(errands),
            errands=errands,
            full_zones=full_zones,
            dns=Questions(name_server, self.keeper.snapshot, settings.dns.rate, settings.dns.burst),
        )
        registry.register(ReadinessCollector(readiness.checks))
        self._hub_watch = HubWatch(ServiceManager(os.environ), form=settings.log_format)
        registry.register(self._hub_watch)
        self._connections = ConnectionFactory(
            services.stats_waiters,
            lambda message: stats.deliver(services.stats_waiters, message),
            self.counters.events,
            None if settings.openflow_tls is None else ServerTls(settings.openflow_tls),
            settings.handshakes_per_address,
        )
        compat.serve_connections(self._connections)
        gate = make_app(services)
        gate.prepare()
        self._api = ApiServer(
            gate,
            settings.api_listen,
            settings.api_port,
            settings.connections_per_address,
            None if settings.api_tls is None else ServerTls(settings.api_tls),
        )
        transfer = settings.zone_transfer
        self._transfer = None if transfer is None else TransferServer(transfer, self.keeper.snapshot)

    def _zone_owners(self, node: str) -> Mapping[int, int]:
        """The keys of a node's ports by conntrack zone."""
        return {zone: port.key for zone, port in ports_by_zone(self.keeper.snapshot(), node).items()}

    def _object_name(self, kind: str, id_: str) -> str:
        """For the log, which begins before any object is known."""
        return object_names.name_of(self._known(), kind, id_)

    def _written(self) -> None:
        """What has been written goes to the switches before its writer goes on: an answer may take a while to make."""
        self.keeper.wake()
        eventlet.sleep(0)

    def _followed(self, before: Snapshot, after: Snapshot, changes: Sequence[Change]) -> None:
        self._advertiser.changed(before, after, changes)
        self._feed.followed(before, after, changes)
        self._changes.followed(after.revision)

    def _muted(self, node: str, mute: Mute) -> None:
        self._mutes.muted(node, mute)
        self._feed.muted(node, mute)

    def _dispatcher(self, node: str) -> Dispatcher:
        return Dispatcher(node, self._packet_in_services)

    def _neighbour_seen(self, node: str, neighbour: Neighbour) -> None:
        self._resolver.heard(node, neighbour)
        self._neighbours.heard(node, neighbour)

    def _node_state(self, node: str) -> dict[str, Any]:
        return {**self.keeper.describe(node), **self.sessions.describe(node), "controller": self._controller_of(node)}

    # of several controllers

    def _join(self, settings: config.ControllerConfig) -> Cluster:
        own = Own(settings.cluster.name, str(uuid.uuid4()), settings.cluster.api_url)
        store = ClusterStore(settings.database_url, settings.cluster.lease)
        return Cluster(own, store, settings.cluster.lease, Reach(lambda: iter(self.sessions)).nodes, self.counters)

    def _told(self, _payload: str) -> None:
        """Another controller has written something about the nodes."""
        if self._cluster is not None:
            self._cluster.told()

    def _leads(self) -> bool:
        """This controller does what is to be done once."""
        return self._cluster is None or self._cluster.is_leader

    def _leading(self, job: Callable[[], object]) -> Callable[[], object]:
        """The job, done by the leader alone."""

        @functools.wraps(job)
        def once() -> object:
            return job() if self._leads() else None

        return once

    def _connected_elsewhere(self, node: str) -> bool:
        return self._cluster is not None and self._cluster.connected_elsewhere(node)

    def _controllers(self) -> list[dict[str, Any]]:
        """For people, in JSON values, but for times."""
        if self._cluster is not None:
            return self._cluster.state.describe()
        nodes = sorted(self.sessions.nodes())
        return [
            {
                "name": self._name,
                "api_url": self._api_url,
                "leader": True,
                "nodes": nodes,
                "connected_nodes": len(nodes),
                "started_at": self._started_at,
            }
        ]

    def _controller_of(self, node: str) -> str | None:
        if self._cluster is not None:
            return self._cluster.state.controller_of(node)
        return None if self.sessions.of_node(node) is None else self._name

    def start(self) -> Any:
        """Returns the thread whose end is that of the controller, if there is one."""
        super().start()
        every = background.every
        self.threads += [
            eventlet.spawn(self.keeper.run),
            eventlet.spawn(self._changes.run),
            eventlet.spawn(self._neighbours.run, self.counters),
            eventlet.spawn(self._resolver.run, self.counters),
            eventlet.spawn(self._announcer.run, self.counters),
            eventlet.spawn(self._advertiser.run),
            eventlet.spawn(every, advertiser.TICK, self._advertiser.look, self.counters),
            eventlet.spawn(self._arrivals.run, self.counters),
            eventlet.spawn(self._holders.run, self.counters),
            eventlet.spawn(every, holders.TELL_PERIOD, self._holders.tell, self.counters),
            eventlet.spawn(every, holders.TICK, self._holders.ask, self.counters),
            eventlet.spawn(every, arrivals.TELL_PERIOD, self._arrivals.tell, self.counters),
            eventlet.spawn(every, arrivals.END_PERIOD, self._leading(self._arrivals.end), self.counters),
            eventlet.spawn(every, background.TICK, self._neighbours.ask, self.counters),
            eventlet.spawn(every, gateway_watch.PERIOD, self._gateway_watch.look, self.counters),
            eventlet.spawn(every, gateway_watch.ANNOUNCE_PERIOD, self._gateway_watch.announce, self.counters),
            eventlet.spawn(every, background.SETTLE_PERIOD, self.keeper.settle, self.counters),
            eventlet.spawn(every, background.LEASE_PERIOD, self._lease_writer.write, self.counters),
            eventlet.spawn(every, self._gateway_period(), self._leading(self._release_gateways), self.counters),
            eventlet.spawn(every, audit.AUDIT_PERIOD, self._audit.run, self.counters),
            eventlet.spawn(every, background.HOLD_PERIOD, self._holds.end, self.counters),
            eventlet.spawn(every, LOOK_PERIOD, self._tokens.look, self.counters),
            eventlet.spawn(every, USED_PERIOD, self._tokens.write_uses, self.counters),
            eventlet.spawn(every, background.REVOKE_PERIOD, self._connections.close_revoked, self.counters),
            eventlet.spawn(every, background.HISTORY_PERIOD, self._leading(self._forget_history), self.counters),
        ]
        if self._listener is not None:
            self.threads += [
                eventlet.spawn(self._listener.run),
                eventlet.spawn(every, journal_watch.PERIOD, self._journal_watch.look, self.counters),
            ]
        if self._transfer is not None:
            self.threads += self._transfer.start(self.counters)
        self._api.start()
        self._hub_watch.start()
        if self._cluster is None:
            return None
        self.threads += [eventlet.spawn(self._cluster.tell), eventlet.spawn(self._cluster.follow)]
        return eventlet.spawn(self._cluster.run)

    def _gateway_period(self) -> float:
        """Seconds. A short delay is not made long by looking seldom."""
        return min(background.GATEWAY_PERIOD, max(background.TICK, self._release_delay))

    def _forget_history(self) -> None:
        background.forget_older(self.store.forget_history, self._history_days)
        background.forget_older(self.store.forget_audit, self._audit_days)
        background.forget_older(self.store.forget_tokens, KEPT_DAYS)

    def _release_gateways(self) -> None:
        self.store.release_idle_gateways(self._release_delay)

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])  # type: ignore[untyped-decorator]
    def switch_changed(self, event: Any) -> None:
        """Runs in Ryu's event loop, whose queue is short: nothing that waits."""
        if event.state == MAIN_DISPATCHER:
            self.sessions.connected(event.datapath)
        else:
            self.sessions.disconnected(event.datapath)

    def close(self) -> None:
        """Writes down what is only in memory. The switches keep their flows."""
        self._api.stop()
        if self._cluster is not None:
            self._lease_writer.write()
            self.keeper.settle()
            self._cluster.resign()
        self._connections.close_all()
        self._lease_writer.write()
        self.keeper.settle()
        self._tokens.write_uses()
        self.store.close()
