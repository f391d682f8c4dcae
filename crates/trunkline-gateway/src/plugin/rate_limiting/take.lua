-- Counts one request in every window if all have room for it, and in none otherwise. Windows begin with the server's clock,
-- so that gateways whose clocks differ share them. KEYS[1] is whoever asks; ARGV are the length of each window in
-- seconds and its bound. Gives the seconds until the next request is welcome (-1: it is), the server's time, and each count.
local now = tonumber(redis.call('TIME')[1])
local names, longest = {}, 0
for i = 1, #ARGV, 2 do
    names[#names + 1] = 'w' .. ARGV[i]
    names[#names + 1] = 'c' .. ARGV[i]
    longest = math.max(longest, tonumber(ARGV[i]))
end
local kept = redis.call('HMGET', KEYS[1], unpack(names))
local counts, refused = {}, -1
for i = 1, #ARGV, 2 do
    local seconds, bound = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
    local window = math.floor(now / seconds)
    local count = 0
    if tonumber(kept[i]) == window then
        count = tonumber(kept[i + 1]) or 0
    end
    if count >= bound then
        refused = math.max(refused, seconds - now % seconds)
    end
    counts[#counts + 1] = count
end
if refused < 0 then
    local writes = {}
    for i, count in ipairs(counts) do
        counts[i] = count + 1
        writes[#writes + 1] = names[2 * i - 1]
        writes[#writes + 1] = math.floor(now / tonumber(ARGV[2 * i - 1]))
        writes[#writes + 1] = names[2 * i]
        writes[#writes + 1] = counts[i]
    end
    redis.call('HSET', KEYS[1], unpack(writes))
    redis.call('EXPIRE', KEYS[1], longest - now % longest)
end
return { refused, now, unpack(counts) }
