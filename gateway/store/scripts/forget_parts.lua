-- KEYS[1] gw:{id}, the task's hash: counts follow
-- KEYS[2] gw:{id}:parts: the given parts are deleted
-- KEYS[3] gw:{id}:tail: deleted when a contiguous part before it goes
-- ARGV: now, ttl, op, upload id, part numbers
-- Answers "ok" with the task, also when the op comes again; "gone"; "upload" when the task has another upload.
local now, ttl, op, upload_id = unpack(ARGV, 1, 4)
local known = redis.call('HMGET', TASK, 'version', 'upload_id', 'loaded', 'stored_count', 'contiguous_count',
  'next_offset', 'tail_size')
if not known[1] then
  return answer('gone')
end
if version_of(op) then
  return answer('ok')
end
if (known[2] or '') ~= upload_id then
  return answer('upload')
end
local loaded, stored, count = number_of(known[3]), number_of(known[4]), number_of(known[5])
local offset, tail, first = number_of(known[6]), number_of(known[7]), count + 1
local gone = {}
for index = 5, #ARGV do
  local record = redis.call('HGET', PARTS, ARGV[index])
  if record then
    gone[#gone + 1] = ARGV[index]
    loaded, stored = loaded - size_of(record), stored - 1
    first = math.min(first, tonumber(ARGV[index]))
  end
end
if #gone == 0 then
  return answer('ok')
end
allow_when_full()
if first <= count then
  loaded, offset, tail = loaded - tail, offset - tail, 0
  redis.call('DEL', TAIL)
  for number = first, count do
    offset = offset - size_of(redis.call('HGET', PARTS, number) or '0')
  end
  count = first - 1
end
for _, number in ipairs(gone) do
  redis.call('HDEL', PARTS, number)
end
commit(now, tonumber(ttl), {
  'ops', ops_with(op), 'loaded', whole(loaded), 'stored_count', whole(stored),
  'contiguous_count', whole(count), 'next_offset', whole(offset), 'tail_size', whole(tail),
})
return answer('ok')
