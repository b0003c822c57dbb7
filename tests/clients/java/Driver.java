import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.ToNumberPolicy;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import kotlin.Unit;
import okhttp3.OkHttpClient;
import org.phoenixframework.Channel;
import org.phoenixframework.Defaults;
import org.phoenixframework.Message;
import org.phoenixframework.Push;
import org.phoenixframework.Socket;

/** A driver of JavaPhoenixClient, as adapters/driver.mjs describes them. */
public final class Driver {
  private static final long TIMEOUT_MS = 10_000;
  /** Whole numbers stay whole. */
  private static final Gson GSON = new GsonBuilder().serializeNulls().setObjectToNumberStrategy(ToNumberPolicy.LONG_OR_DOUBLE).create();
  private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

  private Socket socket;
  private final Map<String, Channel> channels = new ConcurrentHashMap<>();
  /** Where each ticker is, for its next join. */
  private final Map<String, Map<String, Object>> last = new ConcurrentHashMap<>();
  private final Map<String, Object> asked = new ConcurrentHashMap<>();

  private static synchronized void tell(Object... pairs) {
    Map<String, Object> message = new LinkedHashMap<>();
    for (int i = 0; i < pairs.length; i += 2) message.put((String) pairs[i], pairs[i + 1]);
    OUT.println(GSON.toJson(message));
  }

  /** Tells the outcome of a push, once; the latch falls then. */
  private static CountDownLatch answer(Object id, Push push) {
    CountDownLatch done = new CountDownLatch(1);
    // The library sends a join again after a lost connection, and its hooks stay.
    AtomicBoolean answered = new AtomicBoolean();
    for (String status : new String[] {"ok", "error", "timeout"}) {
      push.receive(status, message -> {
        if (!answered.getAndSet(true)) tell("id", id, "status", status, "response", message.getPayload());
        done.countDown();
        return Unit.INSTANCE;
      });
    }
    // What was answered before all hooks were there has been seen by none, or by one.
    Message received = push.getReceivedMessage();
    if (received != null && !answered.getAndSet(true)) {
      tell("id", id, "status", received.getStatus(), "response", received.getPayload());
      done.countDown();
    }
    return done;
  }

  private void connect(Map<String, Object> command) {
    socket = new Socket(
        command.get("url") + "/websocket", map(command.get("params")), Defaults.VSN,
        Defaults.INSTANCE.getEncode(), Defaults.INSTANCE.getDecode(), new OkHttpClient());
    socket.setReconnectAfterMs(tries -> 50L);
    socket.setRejoinAfterMs(tries -> 50L);
    socket.onOpen(() -> {
      if (!command.containsKey("open")) tell("id", command.get("id"), "status", "ok", "response", null);
      command.put("open", true);
      return Unit.INSTANCE;
    });
    socket.connect();
  }

  private void join(Map<String, Object> command) throws InterruptedException {
    String topic = (String) command.get("topic");
    boolean resume = Boolean.TRUE.equals(command.get("resume"));
    Channel channel = socket.channel(topic, () -> {
      Map<String, Object> position = last.get(topic);
      if (!resume || position == null) return map(command.get("params"));
      asked.put(topic, position);
      return Map.of("since", position);
    });
    channel.onMessage(message -> {
      String event = message.getEvent();
      if (!event.startsWith("phx_") && !event.startsWith("chan_reply_")) {
        follow(topic, message.getPayload());
        tell("topic", topic, "event", event, "payload", message.getPayload());
      }
      return message;
    });
    channels.put(topic, channel);
    // Hooks are there before the join is sent: the library loses an answer that comes while one is added.
    Push push = channel.getJoinPush$JavaPhoenixClient();
    push.receive("ok", message -> {
      follow(topic, message.getPayload());
      tell("topic", topic, "joined", message.getPayload(), "asked", asked.remove(topic));
      return Unit.INSTANCE;
    });
    CountDownLatch done = answer(command.get("id"), push);
    channel.join(TIMEOUT_MS);
    // The library's list of channels must not grow while its other thread goes through it for a message.
    done.await();
  }

  private void follow(String topic, Map<String, Object> payload) {
    if (payload.get("epoch") instanceof String epoch && payload.get("seq") instanceof Number seq) {
      last.put(topic, Map.of("epoch", epoch, "seq", seq.longValue()));
    }
  }

  private void obey(Map<String, Object> command) throws InterruptedException {
    Channel channel = command.containsKey("topic") ? channels.get(command.get("topic")) : null;
    switch ((String) command.get("do")) {
      case "connect" -> connect(command);
      case "join" -> join(command);
      case "push" -> answer(command.get("id"), channel.push((String) command.get("event"), map(command.get("payload")), TIMEOUT_MS));
      case "cast" -> {
        channel.push((String) command.get("event"), map(command.get("payload")), TIMEOUT_MS);
        tell("id", command.get("id"), "status", "ok", "response", null);
      }
      case "leave" -> answer(command.get("id"), channel.leave(TIMEOUT_MS));
      default -> throw new IllegalArgumentException("unknown command " + command);
    }
  }

  @SuppressWarnings("unchecked")
  private static Map<String, Object> map(Object value) {
    return value == null ? Map.of() : (Map<String, Object>) value;
  }

  public static void main(String[] args) throws Exception {
    Driver driver = new Driver();
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      driver.obey(map(GSON.fromJson(line, Object.class)));
    }
    // Its timers and OkHttp's threads would keep the process for minutes.
    System.exit(0);
  }
}
