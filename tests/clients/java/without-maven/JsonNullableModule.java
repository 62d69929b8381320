package org.openapitools.jackson.nullable;

import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.databind.BeanDescription;
import com.fasterxml.jackson.databind.SerializationConfig;
import com.fasterxml.jackson.databind.SerializerProvider;
import com.fasterxml.jackson.databind.module.SimpleModule;
import com.fasterxml.jackson.databind.ser.BeanPropertyWriter;
import com.fasterxml.jackson.databind.ser.BeanSerializerModifier;
import com.fasterxml.jackson.databind.ser.std.StdSerializer;
import java.io.IOException;
import java.util.List;

/** Writes a value as it is, and leaves out what is absent. */
public class JsonNullableModule extends SimpleModule {
    public JsonNullableModule() {
        addSerializer(new Writer());
        setSerializerModifier(new BeanSerializerModifier() {
            @Override
            public List<BeanPropertyWriter> changeProperties(SerializationConfig config, BeanDescription bean, List<BeanPropertyWriter> properties) {
                properties.replaceAll(property -> property.getType().hasRawClass(JsonNullable.class) ? new IfPresent(property) : property);
                return properties;
            }
        });
    }

    static class Writer extends StdSerializer<JsonNullable<?>> {
        Writer() {
            super(JsonNullable.class, false);
        }

        @Override
        public void serialize(JsonNullable<?> member, JsonGenerator out, SerializerProvider provider) throws IOException {
            provider.defaultSerializeValue(member.value(), out);
        }
    }

    static class IfPresent extends BeanPropertyWriter {
        IfPresent(BeanPropertyWriter property) {
            super(property);
        }

        @Override
        public void serializeAsField(Object bean, JsonGenerator out, SerializerProvider provider) throws Exception {
            if (((JsonNullable<?>) get(bean)).isPresent()) {
                super.serializeAsField(bean, out, provider);
            }
        }
    }
}
