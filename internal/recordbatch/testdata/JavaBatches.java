import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.*;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.utils.Utils;

/**
 * Writes java-batches.json.gz: record batches and message sets of all formats as Apache Kafka's own classes write
 * them, each with what those classes read back, and murmur2 hashes. To make it again:
 *
 *   java -cp 'kafka-4.3.1/lib/*' JavaBatches.java | gzip -9n > java-batches.json.gz
 */
public class JavaBatches {
    static final byte[][] BYTES = {null, {}, "key".getBytes(StandardCharsets.UTF_8), "x".repeat(70_000).getBytes(StandardCharsets.UTF_8), {0, -1, 127, -128}};
    static final long[] TIMES = {1_700_000_000_000L, 0L, 4_102_444_800_000L, -1L, 86_400_000L, 1_700_000_000_000L};
    static final List<String> cases = new ArrayList<>();

    public static void main(String[] args) throws Exception {
        for (byte magic = 0; magic <= 2; magic++)
            for (CompressionType codec : CompressionType.values()) {
                if (codec == CompressionType.ZSTD && magic < 2) continue;
                for (TimestampType type : new TimestampType[] {TimestampType.CREATE_TIME, TimestampType.LOG_APPEND_TIME}) {
                    if (type == TimestampType.LOG_APPEND_TIME && magic == 0) continue;
                    add("v" + magic + " " + codec.name + " " + type.name, data(magic, codec, type, false));
                    add("v" + magic + " " + codec.name + " " + type.name + " with offset gaps", data(magic, codec, type, true));
                }
            }
        for (ControlRecordType type : new ControlRecordType[] {ControlRecordType.ABORT, ControlRecordType.COMMIT})
            add("v2 marker " + type, MemoryRecords.withEndTransactionMarker(77, 1_700_000_000_000L, 3, 4711, (short) 5, new EndTransactionMarker(type, 9)));
        add("v2 transactional", MemoryRecords.withTransactionalRecords(12, Compression.NONE, 4711, (short) 5, 8, 3, new SimpleRecord(1L, "k".getBytes(), "v".getBytes())));

        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        out.println("{\"batches\": [\n" + String.join(",\n", cases) + "\n],\n\"murmur2\": [");
        List<String> hashes = new ArrayList<>();
        for (String key : new String[] {"", "a", "ab", "abc", "abcd", "21", "foobar", "a-little-bit-long-string", "a-little-bit-longer-string", "\u00e4\u00f6\u00fc", "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8"})
            hashes.add("{\"key\": " + bytes(key.getBytes(StandardCharsets.UTF_8)) + ", \"hash\": " + Utils.murmur2(key.getBytes(StandardCharsets.UTF_8)) + "}");
        out.println(String.join(",\n", hashes) + "\n]}");
        out.flush();
    }

    static MemoryRecords data(byte magic, CompressionType codec, TimestampType type, boolean gaps) {
        MemoryRecordsBuilder b = MemoryRecords.builder(ByteBuffer.allocate(1 << 20), magic, Compression.of(codec).build(), type, 1000L, 1_650_000_000_000L);
        long offset = 1000;
        for (int i = 0; i < 12; i++) {
            Header[] headers = Record.EMPTY_HEADERS;
            if (magic == 2 && i % 3 == 0)
                headers = new Header[] {new RecordHeader("a", new byte[] {1}), new RecordHeader("a", (byte[]) null), new RecordHeader("", new byte[0]), new RecordHeader("a", new byte[] {2})};
            b.appendWithOffset(offset, TIMES[i % TIMES.length], BYTES[i % BYTES.length], BYTES[(i + i / 5 + 1) % BYTES.length], headers);
            offset += gaps ? 1 + i * 7 : 1;
        }
        return b.build();
    }

    static void add(String name, MemoryRecords records) {
        ByteBuffer buffer = records.buffer().duplicate();
        byte[] raw = new byte[buffer.remaining()];
        buffer.get(raw);
        List<String> read = new ArrayList<>();
        for (RecordBatch batch : records.batches())
            for (Record r : batch) {
                List<String> headers = new ArrayList<>();
                for (Header h : r.headers())
                    headers.add("{\"key\": " + bytes(h.key().getBytes(StandardCharsets.UTF_8)) + ", \"value\": " + bytes(h.value()) + "}");
                read.add("{\"offset\": " + r.offset() + ", \"timestamp\": " + r.timestamp() + ", \"key\": " + bytes(r.hasKey() ? Utils.toArray(r.key()) : null)
                    + ", \"value\": " + bytes(r.hasValue() ? Utils.toArray(r.value()) : null) + ", \"headers\": [" + String.join(", ", headers) + "]}");
            }
        cases.add("{\"name\": \"" + name + "\", \"bytes\": " + bytes(raw) + ",\n \"records\": [\n  " + String.join(",\n  ", read) + "]}");
    }

    static String bytes(byte[] b) { return b == null ? "null" : '"' + Base64.getEncoder().encodeToString(b) + '"'; }
}
