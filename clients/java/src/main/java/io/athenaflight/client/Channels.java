package io.athenaflight.client;

import io.grpc.ManagedChannel;
import io.grpc.netty.NettyChannelBuilder;
import io.netty.channel.ChannelOption;
import io.netty.channel.socket.nio.NioChannelOption;
import java.net.SocketOption;
import java.net.URI;
import java.util.Map;
import jdk.net.ExtendedSocketOptions;

/**
 * The way to a server: by name, so that each new connection asks DNS where the server is now (Arrow's own builder asks
 * once, and a client would stay with the address of a container that is long gone).
 */
final class Channels {
  /**
   * A peer that vanished without a word is found by the kernel within a minute, and what counts idle connections between
   * the two (load balancers, NAT: from 60 s on) sees signs of life. Not by pings of HTTP/2: servers that run on gRPC's
   * C core, as this one, end connections that send one in less than five minutes.
   */
  private static final Map<String, SocketOption<Integer>> KEEPALIVE =
      Map.of(
          "TCP_KEEPIDLE", ExtendedSocketOptions.TCP_KEEPIDLE,
          "TCP_KEEPINTVL", ExtendedSocketOptions.TCP_KEEPINTERVAL,
          "TCP_KEEPCNT", ExtendedSocketOptions.TCP_KEEPCOUNT);

  private static final Map<String, Integer> SECONDS = Map.of("TCP_KEEPIDLE", 30, "TCP_KEEPINTVL", 10, "TCP_KEEPCNT", 3);

  private Channels() {}

  /** {@code tls} is null for a connection without. Nothing is connected yet. */
  static ManagedChannel to(URI url, Certificates.Tls tls) {
    NettyChannelBuilder builder = NettyChannelBuilder.forAddress(url.getHost(), url.getPort());
    // A batch is at most 8 MiB, a plan or a contract some kB; that is the server's to keep.
    builder.maxInboundMessageSize(Integer.MAX_VALUE).maxInboundMetadataSize(Integer.MAX_VALUE).maxTraceEvents(0);
    boolean epoll = isEpoll();
    builder.withOption(ChannelOption.SO_KEEPALIVE, true);
    KEEPALIVE.forEach((name, option) -> builder.withOption(keepalive(name, option, epoll), SECONDS.get(name)));
    return (tls == null ? builder.usePlaintext() : builder.sslContext(new Certificates(tls))).build();
  }

  /** Of netty's native sockets by its name, which its pool of options knows without their library. */
  private static ChannelOption<Integer> keepalive(String name, SocketOption<Integer> nio, boolean epoll) {
    return epoll ? ChannelOption.valueOf("io.netty.channel.epoll.EpollChannelOption#" + name) : NioChannelOption.of(nio);
  }

  /** Whether gRPC will take netty's native sockets, as it does where a program has them for other reasons. */
  private static boolean isEpoll() {
    try {
      return (Boolean) Class.forName("io.netty.channel.epoll.Epoll").getMethod("isAvailable").invoke(null);
    } catch (ReflectiveOperationException | LinkageError error) {
      return false;
    }
  }
}
