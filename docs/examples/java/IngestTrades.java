// Feed TraderMind from Java: write trades to the public ingress topic, so many a second. Knows nothing of TraderMind.
//
//     mvn -q dependency:copy-dependencies -DoutputDirectory=lib
//     java -cp 'lib/*' IngestTrades.java BROKER REGISTRY_URL INSTRUMENT PRICE RATE SECONDS
//
// Prices and quantities are integers in units of 1e-8; the event id is yours and makes a re-send harmless.

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class IngestTrades {
    static final String TOPIC = "tradermind.ingest.trade.v1";

    public static void main(String[] arguments) throws Exception {
        String broker = arguments[0], registry = arguments[1], instrument = arguments[2];
        long price = Math.round(Double.parseDouble(arguments[3]) * 1e8);
        int rate = Integer.parseInt(arguments[4]), count = rate * Integer.parseInt(arguments[5]);

        JsonNode latest = new ObjectMapper().readTree(get(registry + "/subjects/" + TOPIC + "-value/versions/latest"));
        int schemaId = latest.get("id").asInt();
        Schema schema = new Schema.Parser().parse(latest.get("schema").asText());
        Schema side = schema.getField("aggressor").schema().getTypes().get(1);

        Map<String, Object> settings = Map.of("bootstrap.servers", broker, "acks", "all", "linger.ms", 5);
        AtomicInteger failed = new AtomicInteger();
        String run = "java/" + System.nanoTime() + "/";
        long began = System.nanoTime();
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new ByteArraySerializer())) {
            for (int number = 0; number < count; number++) {
                GenericRecord trade = new GenericData.Record(schema);
                trade.put("event_id", run + number);
                trade.put("instrument", instrument);
                trade.put("event_time_ns", System.currentTimeMillis() * 1_000_000L);
                trade.put("trade_id", run + number);
                trade.put("price", price + 1_000_000L * (number % 5));
                trade.put("quantity", 1_000_000L);
                trade.put("aggressor", new GenericData.EnumSymbol(side, number % 2 == 0 ? "BUY" : "SELL"));
                var record = new ProducerRecord<>(TOPIC, instrument, framed(schemaId, schema, trade));
                producer.send(record, (metadata, error) -> { if (error != null) failed.incrementAndGet(); });
                long due = began + (number + 1) * 1_000_000_000L / rate;
                for (long wait; (wait = due - System.nanoTime()) > 0; ) LockSupport.parkNanos(wait);
            }
        }
        System.out.println((count - failed.get()) + " trades written, " + failed.get() + " not");
        System.exit(failed.get() == 0 ? 0 : 1);
    }

    /** A zero byte, the schema's id as four bytes, and the Avro body. */
    static byte[] framed(int schemaId, Schema schema, GenericRecord record) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        bytes.write(0);
        bytes.write(ByteBuffer.allocate(4).putInt(schemaId).array());
        BinaryEncoder encoder = EncoderFactory.get().directBinaryEncoder(bytes, null);
        new GenericDatumWriter<GenericRecord>(schema).write(record, encoder);
        return bytes.toByteArray();
    }

    static String get(String url) throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder(URI.create(url)).build();
        return HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body();
    }
}
