-- KEYS[1] gw:{id}, the task's hash: counts, speed and state follow the part
-- KEYS[2] gw:{id}:parts: the part is written
-- KEYS[3] gw:{id}:tail: deleted by the part that holds its bytes
-- ARGV: now, ttl, moves, upload id, writer, part number, part record
-- Answers "ok" with the task, also for the same record again; "gone"; "state", "upload" or "writer" when the task takes
-- no part of this writer; "forgotten" when the parts have vanished.
local now, ttl, moves, upload_id, writer, number, record = unpack(ARGV)
local known = redis.call('HMGET', TASK, 'state', 'upload_id', 'writer')
if not known[1] then
  return answer('gone')
end
if redis.call('HGET', PARTS, number) == record then
  return answer('ok')
end
local state = moved(moves, known[1])
if not state then
  return answer('state')
end
if (known[2] or '') ~= upload_id then
  return answer('upload')
end
if (known[3] or '0') ~= writer then
  return answer('writer')
end
if forgotten() then
  return answer('forgotten')
end
allow_when_full()
mend(now, tonumber(ttl))
local fields = put_part(tonumber(number), record)
measure(now, size_of(record), fields)
if state ~= known[1] then
  fields[#fields + 1], fields[#fields + 2] = 'state', state
end
commit(now, tonumber(ttl), fields)
return answer('ok')
