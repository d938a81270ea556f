-- KEYS[1] gw:{id}, the task's hash: counts follow the parts
-- KEYS[2] gw:{id}:parts: written, if it has vanished
-- KEYS[3] gw:{id}:tail: deleted, for nobody knows what it followed
-- ARGV: now, ttl, upload id, part numbers and records (a JSON array of arrays, each short enough to unpack)
-- Answers "ok", also when the parts are back, or the task is gone, final or has another upload.
local now, ttl, upload_id, runs = unpack(ARGV)
if (redis.call('HGET', TASK, 'upload_id') or '') ~= upload_id or not forgotten() then
  return '["ok"]'
end
for _, records in ipairs(cjson.decode(runs)) do
  redis.call('HSET', PARTS, unpack(records))
end
redis.call('DEL', TAIL)
local loaded, count, offset = 0, 0, 0
for _, record in ipairs(redis.call('HVALS', PARTS)) do
  loaded = loaded + size_of(record)
end
local following = redis.call('HGET', PARTS, 1)
while following do
  count, offset = count + 1, offset + size_of(following)
  following = redis.call('HGET', PARTS, count + 1)
end
commit(now, tonumber(ttl), {
  'stored_count', whole(redis.call('HLEN', PARTS)), 'contiguous_count', whole(count),
  'loaded', whole(loaded), 'next_offset', whole(offset), 'tail_size', 0,
})
return '["ok"]'
