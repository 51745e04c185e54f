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
import os
from typing import Any

import eventlet
import structlog
from prometheus_client import CollectorRegistry
from ryu.base.app_manager import RyuApp
from ryu.controller import ofp_event
from ryu.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls

from agent.service_manager import ServiceManager
from controller import advertiser, arrivals, audit, background, config, gateway_watch, holders, journal_watch, logs
from controller.advertiser import Advertiser
from controller.announcer import Announcer
from controller.api import stats
from controller.api.gate import make_app
from controller.api.server import ApiServer
from controller.api.services import Services
from controller.api.token_keeper import KEPT_DAYS, LOOK_PERIOD, USED_PERIOD, TokenKeeper
from controller.arrivals import Arrivals
from controller.background import HoldKeeper, LeaseWriter, NeighbourWatch
from controller.connection import ConnectionFactory
from controller.dns.build import build as build_dns
from controller.dns.metrics import DnsCollector
from controller.dns.tcp import Questions
from controller.dns.transfer import TransferServer
from controller.gateway_watch import GatewayWatch
from controller.holders import Holders
from controller.hub_watch import HubWatch
from controller.journal_watch import JournalWatch
from controller.metadata.service import MetadataService
from controller.mutes import Mutes
from controller.packet_in.dhcp import DhcpServer
from controller.packet_in.dispatch import Dispatcher, Limit, limits
from controller.packet_in.dispatch import Services as PacketInServices
from controller.packet_in.leases import LeaseLog
from controller.packet_in.unresolved import Unresolved
from controller.port_counters import PortCollector, PortCounters
from controller.receive import VERSION
from controller.resolver import Resolver
from controller.session_counters import Counters, SessionCollector
from controller.session_registry import SessionRegistry
from controller.snapshots import SnapshotKeeper
from controller.store import Store, occupation
from controller.store.notifications import Listener
from controller.store.postgresql import JOURNAL
from controller.tls_context import ServerTls
from flows.model import Neighbour


class Trunkline(RyuApp):  # type: ignore[misc]
    """Everything is built before Ryu starts to listen: a switch that connects finds its flows computed."""

    OFP_VERSIONS = [VERSION]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = config.read()
        config.apply_to_ryu(settings)
        logs.configure(settings.log_format, settings.log_level)
        self.counters = Counters()
        self._occupied = occupation.occupy(settings.database_url)
        self.store = Store(
            settings.database_url,
            vlan_range=settings.vlan_range,
            on_commit=lambda _: self._written(),
            auto_assign_pool=settings.auto_assign_pool,
            limits=settings.limits,
            holds=settings.holds,
        )
        self.keeper = SnapshotKeeper(self.store, self.counters)
        self._journal_watch = JournalWatch(
            self.store, lambda: self.keeper.current.revision, self.keeper.wake, lambda: os._exit(os.EX_TEMPFAIL)
        )
        self._listener = None
        if self.store.shared:
            self._listener = Listener(settings.database_url, {JOURNAL: self._journal_watch.told}, self.keeper.wake)
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
            arrived=lambda port_id, node: self._arrivals.arrived(port_id, node),
            holds=lambda place, claim: self._holders.heard(place, claim),
            counters=self.counters.packet_in_outcomes,
            dns=name_server,
            send=lambda *packet: self.sessions.send(*packet),
            limits=limits(
                settings.packet_in_rate, settings.packet_in_burst, Limit(settings.dns.rate, settings.dns.burst)
            ),
            log_sample=settings.connection_sample,
            mute=settings.packet_in_mute,
            muted=self._mutes.muted,
        )
        self.sessions = SessionRegistry(self.keeper, self._dispatcher, self.counters)
        self.keeper.attach(self.sessions)
        self._announcer = Announcer(self.keeper.snapshot, self.keeper.holds, self.sessions.send)
        self.keeper.announce_by(self._announcer.claimed)
        self._advertiser = Advertiser(
            self.keeper.snapshot, self.sessions.live, self.sessions.send, dhcp.leads_out, self.counters
        )
        self.keeper.tell(self._advertiser.changed)
        self._arrivals = Arrivals(self.store, self.keeper.snapshot, self.keeper.port_active, self.sessions.send)
        self._holders = Holders(
            self.store, self.keeper.snapshot, self.sessions.live, self.keeper.port_active, self.sessions.send
        )
        self._gateway_watch = GatewayWatch(
            self.store, self.keeper.snapshot, lambda: iter(self.sessions), self.sessions.send
        )
        self._holds = HoldKeeper(self.store)
        self._audit = audit.FlowAudit(self.sessions.live, self.keeper.settled, self.sessions.ask, self.counters)
        self._release_delay = settings.gateway_release_delay
        self._history_days = settings.history_days
        self._audit_days = settings.audit_days
        registry = CollectorRegistry()
        registry.register(
            SessionCollector(self.counters, self.sessions.quarantined, self.sessions.parked, self.keeper.unconfirmed)
        )
        port_counters = PortCounters(self.sessions.ask)
        registry.register(self._mutes)
        registry.register(DnsCollector(lambda: name_server.counts, forwarder))
        registry.register(PortCollector(port_counters, self.keeper.snapshot, self.sessions.nodes))
        self._tokens = TokenKeeper(self.store, settings.credentials)
        if not self._tokens:
            structlog.get_logger().warning("no_tokens", effect="nobody can use the API", option="[auth] token")
        services = Services(
            store=self.store,
            snapshot=self.keeper.snapshot,
            confirmations=self.keeper,
            port_active=self.keeper.port_active,
            floating_ip_active=self.keeper.floating_ip_active,
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
            dns=Questions(name_server, self.keeper.snapshot, settings.dns.rate, settings.dns.burst),
        )
        self._hub_watch = HubWatch(ServiceManager(os.environ), form=settings.log_format)
        registry.register(self._hub_watch)
        self._connections = ConnectionFactory(
            services.stats_waiters,
            lambda message: stats.deliver(services.stats_waiters, message),
            self.counters.events,
            None if settings.openflow_tls is None else ServerTls(settings.openflow_tls),
        )
        compat.serve_connections(self._connections)
        self._api = ApiServer(
            make_app(services),
            settings.api_listen,
            settings.api_port,
            settings.connections_per_address,
            None if settings.api_tls is None else ServerTls(settings.api_tls),
        )
        transfer = settings.zone_transfer
        self._transfer = None if transfer is None else TransferServer(transfer, self.keeper.snapshot)

    def _written(self) -> None:
        """What has been written goes to the switches before its writer goes on: an answer may take a while to make."""
        self.keeper.wake()
        eventlet.sleep(0)

    def _dispatcher(self, node: str) -> Dispatcher:
        return Dispatcher(node, self._packet_in_services)

    def _neighbour_seen(self, node: str, neighbour: Neighbour) -> None:
        self._resolver.heard(node, neighbour)
        self._neighbours.heard(node, neighbour)

    def _node_state(self, node: str) -> dict[str, Any]:
        return {**self.keeper.describe(node), **self.sessions.describe(node)}

    def start(self) -> None:
        super().start()
        every = background.every
        self.threads += [
            eventlet.spawn(self.keeper.run),
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
            eventlet.spawn(every, arrivals.END_PERIOD, self._arrivals.end, self.counters),
            eventlet.spawn(every, background.TICK, self._neighbours.ask, self.counters),
            eventlet.spawn(every, gateway_watch.PERIOD, self._gateway_watch.look, self.counters),
            eventlet.spawn(every, gateway_watch.ANNOUNCE_PERIOD, self._gateway_watch.announce, self.counters),
            eventlet.spawn(every, background.SETTLE_PERIOD, self.keeper.settle, self.counters),
            eventlet.spawn(every, background.LEASE_PERIOD, self._lease_writer.write, self.counters),
            eventlet.spawn(every, self._gateway_period(), self._release_gateways, self.counters),
            eventlet.spawn(every, audit.AUDIT_PERIOD, self._audit.run, self.counters),
            eventlet.spawn(every, background.HOLD_PERIOD, self._holds.end, self.counters),
            eventlet.spawn(every, background.HISTORY_PERIOD, self._forget_history, self.counters),
            eventlet.spawn(every, LOOK_PERIOD, self._tokens.look, self.counters),
            eventlet.spawn(every, USED_PERIOD, self._tokens.write_uses, self.counters),
            eventlet.spawn(every, background.REVOKE_PERIOD, self._connections.close_revoked, self.counters),
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

    def _gateway_period(self) -> float:
        """Seconds. A short delay is not made long by looking seldom."""
        return min(background.GATEWAY_PERIOD, max(background.TICK, self._release_delay))

    def _forget_history(self) -> None:
        background.forget_history(self.store, self._history_days)
        background.forget_audit(self.store, self._audit_days)
        self.store.forget_tokens(KEPT_DAYS * background.DAY)

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
        self._connections.close_all()
        self._lease_writer.write()
        self.keeper.settle()
        self._tokens.write_uses()
        self.store.close()
