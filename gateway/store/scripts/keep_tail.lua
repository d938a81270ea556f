-- KEYS[1] gw:{id}, the task's hash: tail_size, loaded and next_offset follow the tail
-- KEYS[3] gw:{id}:tail: replaced, or deleted by an empty one
-- ARGV: now, ttl, op, moves, upload id, writer, offset of the tail's first byte, tail
-- Answers "ok" with the task, also when the op comes again; "gone"; "state", "upload" or "writer" when the task takes
-- no bytes of this writer; "offset" when the contiguous parts end elsewhere.
local now, ttl, op, moves, upload_id, writer, offset, tail = unpack(ARGV)
local known = redis.call('HMGET', TASK, 'state', 'upload_id', 'writer', 'tail_size', 'loaded', 'next_offset')
if not known[1] then
  return answer('gone')
end
if version_of(op) then
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
if number_of(known[6]) - number_of(known[4]) ~= tonumber(offset) then
  return answer('offset')
end
if tail == '' then
  redis.call('DEL', TAIL)
else
  redis.call('SET', TAIL, tail)
end
local gained = #tail - number_of(known[4])
commit(now, tonumber(ttl), {
  'ops', ops_with(op), 'state', state, 'tail_size', #tail,
  'loaded', whole(number_of(known[5]) + gained), 'next_offset', whole(number_of(known[6]) + gained),
})
return answer('ok')
